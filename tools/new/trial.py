"""What a network gives, found by calling it: whether it takes batches, which dims vary, names and types of outputs.

Nothing is believed that was not seen: a first dimension is the batch only if the network answers at several sizes of it
and gives each row the answer that the row gets alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from clients.contract import TensorSpec
from tools.backends.pytorch.binding import TORCH_DTYPES
from tools.contract import Value
from tools.export.agreement import BATCH_TOLERANCE, ProofError, UnservableError, check_rows_apart, close, described
from tools.export.calling import Served, calling, leaves
from tools.export.remarks import answer, examples, notes

BATCHES = (2, 3)
# Sizes to try for dimensions that vary: the first that the network takes, and half as much again.
OPEN_SIZES = (8, 32, 64, 224)
DATATYPES = {torch_name: name.removeprefix("TYPE_") for name, torch_name in TORCH_DTYPES.items()}


@dataclass(frozen=True)
class Observed:
    """What trying a network has shown.

    Attributes:
        batched: whether the first dimension of every tensor is the batch.
        inputs, outputs: names, types and dims for config.pbtxt; -1 for a dim that varies.
        dims: the shapes that were tried, by input, where dims vary.
        squeezed: arguments that `forward` takes without the dimension of 1 that config.pbtxt has.
        why_unbatched: the reason why it takes no batches, where that was found out.
        notes: what a person should know about it.
    """

    batched: bool
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    dims: tuple[Mapping[str, tuple[int, ...]], ...]
    squeezed: tuple[str, ...]
    why_unbatched: str
    notes: tuple[str, ...]


def observe(
    network: nn.Module, inputs: Sequence[TensorSpec], batched: bool | None = None, tolerance: float = BATCH_TOLERANCE
) -> Observed:
    """Try a network with these inputs.

    Args:
        network: in eval mode.
        inputs: names of `forward`'s arguments, types and dims without the batch; -1 for a dim that varies.
        batched: whether it takes batches, where that is known already.
        tolerance: how far a row's answer may be from the one that it gets alone, relative and absolute.

    Raises:
        ProofError: it cannot be called so, or gives what cannot be served.
    """
    squeezed = tuple(spec.name for spec in inputs if not spec.dims)
    specs = tuple(replace(spec, dims=spec.dims or (1,)) for spec in inputs)
    call = calling(network, [spec.name for spec in specs], squeezed)
    ordered = sorted(specs, key=lambda spec: call.names.index(spec.name))
    texts = any(spec.datatype == "STRING" for spec in specs)
    reasons: dict[bool, str] = {}
    for choice in (True, False) if batched is None else (batched,):
        if choice and texts:
            reasons[choice] = "texts (List[str]) are served without batches"
            continue
        try:
            return attempt(Served(network, call, choice), specs, ordered, tolerance, reasons.get(True, ""))
        except UnservableError:
            raise
        except ProofError as error:
            reasons[choice] = str(error)
    raise ProofError(why_neither(reasons, specs))


def attempt(
    served: Served, specs: Sequence[TensorSpec], ordered: list[TensorSpec], tolerance: float, reason: str
) -> Observed:
    """Try a network with batches, or without where there is a reason for it."""
    shapes = list(open_shapes(served, ordered))
    answers = [answer for shape in shapes for answer in tried(served, shape, tolerance)]
    outputs = outputs_of(served, shapes[0], answers)
    is_open = {spec.name for spec in specs if -1 in spec.dims}
    return Observed(
        batched=served.batched,
        inputs=tuple(specs),
        outputs=outputs,
        dims=tuple({spec.name: spec.dims for spec in shape if spec.name in is_open} for shape in shapes if is_open),
        squeezed=tuple(sorted(served.call.squeezed)),
        why_unbatched=reason,
        notes=tuple(notes(served, shapes[0], outputs)),
    )


def open_shapes(served: Served, specs: Sequence[TensorSpec]) -> Iterator[list[TensorSpec]]:
    """The inputs with sizes for the dims that vary, twice; or once as they are."""
    if not any(-1 in spec.dims for spec in specs):
        yield list(specs)
        return
    for size in OPEN_SIZES:
        shape = sized(specs, size)
        try:
            answer(served, examples(shape, 1 if served.batched else 0))
        except ProofError:
            if size == OPEN_SIZES[-1]:
                raise
            continue
        yield shape
        yield sized(specs, size + size // 2)
        return


def sized(specs: Sequence[TensorSpec], size: int) -> list[TensorSpec]:
    """The inputs with one size for all dims that vary."""
    return [replace(spec, dims=tuple(size if dim < 0 else dim for dim in spec.dims)) for spec in specs]


def tried(served: Served, specs: Sequence[TensorSpec], tolerance: float) -> list[tuple[Value, ...]]:
    """Answers at several batch sizes, or to several inputs without a batch.

    Raises:
        ProofError: the network fails, is random, mixes rows, or does not keep the batch dimension.
    """
    answers = []
    for size in BATCHES:
        values = examples(specs, size if served.batched else 0, size)
        answers.append(answer(served, values))
        check_repeatable(answers[-1], answer(served, values), tolerance)
        if served.batched:
            check_batch(served, values, answers[-1], size, tolerance)
    return answers


def check_repeatable(first: Sequence[Value], second: Sequence[Value], tolerance: float) -> None:
    """The same inputs get the same answer."""
    same = [described(one) == described(other) for one, other in zip(first, second, strict=True)]
    if not all(same) or not all(close(one, other, tolerance) for one, other in zip(first, second, strict=True)):
        raise UnservableError(
            "forward gives the same input different answers; it must not draw random numbers in eval mode"
        )


def check_batch(
    served: Served, values: Sequence[Value], together: Sequence[Value], size: int, tolerance: float
) -> None:
    """Every output has a row for each row of the input, and the same as if it were alone."""
    for place, value in enumerate(together):
        if len(value) != size:
            raise ProofError(
                f"output {place} is {described(value)} for a batch of {size}: it has no row for each input"
            )
    specs = [TensorSpec(f"output {place}", "", ()) for place in range(len(together))]
    for row in (slice(0, 1), slice(size - 1, size)):
        alone = answer(served, [value[row] for value in values])
        check_rows_apart(specs, alone, [value[row] for value in together], size, tolerance)


def outputs_of(
    served: Served, specs: Sequence[TensorSpec], answers: Sequence[tuple[Value, ...]]
) -> tuple[TensorSpec, ...]:
    """Names, types and dims of the outputs; dims that differed between answers vary.

    Raises:
        ProofError: their number or types vary, there is none, or one has a type that Triton does not know here.
    """
    labels = [leaf.label for leaf in leaves(served.answer(*examples(specs, 1 if served.batched else 0)))]
    if not labels:
        raise UnservableError("forward returns nothing; there must be at least one output")
    if len({len(each) for each in answers}) > 1:
        raise UnservableError("forward returns more or fewer outputs as its input says; their number must be fixed")
    found = tuple(
        TensorSpec(f"{label or 'OUTPUT'}__{place}", datatype_of(column[0], place), dims_of(column, served.batched))
        for place, (label, column) in enumerate(zip(labels, zip(*answers, strict=True), strict=True))
    )
    if getattr(served.network, "counts_vary", False):  # Though every example may have had as many.
        return tuple(replace(spec, dims=(-1, *spec.dims[1:])) for spec in found)
    return found


def datatype_of(value: Value, place: int) -> str:
    """Triton's name of an output's type."""
    if isinstance(value, list):
        return "STRING"
    name = str(value.dtype).removeprefix("torch.")
    if name not in DATATYPES:
        raise UnservableError(
            f"output {place} is of type {name}, which libtorch cannot hand to Triton; convert it in forward"
        )
    return DATATYPES[name]


def dims_of(column: Sequence[Value], batched: bool) -> tuple[int, ...]:
    """Dims of an output without its batch; -1 where answers differ."""
    shapes = [(len(value),) if isinstance(value, list) else tuple(value.shape)[int(batched) :] for value in column]
    if len({len(shape) for shape in shapes}) > 1:
        raise UnservableError("an output has more or fewer dimensions as the input says; their number must be fixed")
    # Nothing has a dim of 0 for ever.
    return tuple(sizes[0] if len(set(sizes)) == 1 and sizes[0] else -1 for sizes in zip(*shapes, strict=True))


def why_neither(reasons: Mapping[bool, str], specs: Sequence[TensorSpec]) -> str:
    """Why a network can be called neither with batches nor without, and what to do."""
    flag = ",".join(f"{spec.name}:{spec.datatype}[{','.join(map(str, (4, *spec.dims)))}]" for spec in specs)
    told = "; ".join(f"{'with' if batched else 'without'} batches: {reason}" for batched, reason in reasons.items())
    return (
        f"{told}. Correct --example-inputs; for a network that takes one fixed batch, give its size as a dimension and "
        f"serve it without batches: --max-batch-size 0 --example-inputs '{flag}'"
    )
