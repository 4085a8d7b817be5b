"""The trial of a network: whether it takes batches, which dims vary, and names and types of its outputs.

Nothing is assumed: the first dimension counts as the batch only if the network answers at several batch sizes and
gives each row the answer that the row gets alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from clients.contract import TensorSpec
from tools.backends.pytorch.binding import TORCH_DTYPES
from tools.contract import Value
from tools.export.adapter import Adapter, call_for, examples, flatten
from tools.export.agreement import (
    BATCH_TOLERANCE,
    ProofError,
    UnservableError,
    check_rows_independent,
    describe,
    distance,
    is_close,
)

# Sizes to try for variable dimensions: the first that the network takes, and that plus a half.
_SIZES = (8, 32, 64, 224)
_DATATYPES = {torch_name: name.removeprefix("TYPE_") for name, torch_name in TORCH_DTYPES.items()}


@dataclass(frozen=True)
class Observed:
    """What the trial of a network has shown."""

    batched: bool  # Whether the first dimension of every tensor is the batch.
    inputs: tuple[TensorSpec, ...]  # Names, types and dims for config.pbtxt; -1 for a variable dim.
    outputs: tuple[TensorSpec, ...]
    dims: tuple[Mapping[str, tuple[int, ...]], ...]  # The shapes that were tried, by input, if dims vary.
    squeezed: tuple[str, ...]  # Arguments that `forward` takes without their dimension of 1 in config.pbtxt.
    why_unbatched: str  # Why it takes no batches, if that was found out.
    notes: tuple[str, ...]  # What the model's owner should know.


def observe(
    network: nn.Module, inputs: Sequence[TensorSpec], batched: bool | None = None, tolerance: float = BATCH_TOLERANCE
) -> Observed:
    """Try a network with inputs of these names and types.

    Args:
        network: in eval mode.
        inputs: names of `forward`'s parameters, types, and dims without the batch; -1 for a variable dim.
        batched: whether it takes batches; None to find out.
        tolerance: how far a row's answer may be from the one that it gets alone, relative and absolute.

    Raises:
        ProofError: it cannot be called this way, or its outputs cannot be served.
    """
    squeezed = tuple(spec.name for spec in inputs if not spec.dims)
    specs = tuple(replace(spec, dims=spec.dims or (1,)) for spec in inputs)
    call = call_for(network, [spec.name for spec in specs], squeezed)
    has_texts = any(spec.datatype == "STRING" for spec in specs)
    reasons: dict[bool, str] = {}
    for choice in (True, False) if batched is None else (batched,):
        if choice and has_texts:
            reasons[choice] = "texts (List[str]) are served without batches"
            continue
        try:
            return _attempt(Adapter(network, call, choice), specs, tolerance, reasons.get(True, ""))
        except UnservableError:
            raise
        except ProofError as error:
            reasons[choice] = str(error)
    listed = "; ".join(f"{'with' if batched else 'without'} batches: {reason}" for batched, reason in reasons.items())
    fixed = ",".join(f"{spec.name}:{spec.datatype}[{','.join(map(str, (4, *spec.dims)))}]" for spec in specs)
    raise ProofError(
        f"{listed}. Correct --example-inputs; if the network takes one fixed batch size, give it as a dimension and "
        f"serve without batches: --max-batch-size 0 --example-inputs '{fixed}'"
    )


def _attempt(adapter: Adapter, specs: tuple[TensorSpec, ...], tolerance: float, why_unbatched: str) -> Observed:
    ordered = sorted(specs, key=lambda spec: adapter.call.names.index(spec.name))
    shapes = list(_concrete_shapes(adapter, ordered))
    answers = [answer for shape in shapes for answer in _answers(adapter, shape, tolerance)]
    outputs = _outputs(adapter, shapes[0], answers)
    variable = {spec.name for spec in specs if -1 in spec.dims}
    return Observed(
        batched=adapter.batched,
        inputs=specs,
        outputs=outputs,
        dims=tuple({spec.name: spec.dims for spec in shape if spec.name in variable} for shape in shapes if variable),
        squeezed=tuple(sorted(adapter.call.squeezed)),
        why_unbatched=why_unbatched,
        notes=tuple(_notes(adapter, shapes[0], outputs)),
    )


def _concrete_shapes(adapter: Adapter, specs: Sequence[TensorSpec]) -> Iterator[list[TensorSpec]]:
    # Two sizes for variable dims; or the inputs once as they are.
    def with_size(size: int) -> list[TensorSpec]:
        return [replace(spec, dims=tuple(size if dim < 0 else dim for dim in spec.dims)) for spec in specs]

    if not any(-1 in spec.dims for spec in specs):
        yield list(specs)
        return
    for size in _SIZES:
        try:
            adapter.answer(examples(with_size(size), int(adapter.batched)))
        except ProofError:
            if size == _SIZES[-1]:
                raise
            continue
        yield with_size(size)
        yield with_size(size + size // 2)
        return


def _answers(adapter: Adapter, specs: Sequence[TensorSpec], tolerance: float) -> Iterator[tuple[Value, ...]]:
    # At several batch sizes, or for several inputs without a batch.
    for size in (2, 3):
        values = examples(specs, size if adapter.batched else 0, size)
        answer, again = adapter.answer(values), adapter.answer(values)
        for first, second in zip(answer, again, strict=True):
            if describe(first) != describe(second) or not is_close(first, second, tolerance):
                raise UnservableError(
                    "forward gives the same input different answers; it must not draw random numbers in eval mode"
                )
        if adapter.batched:
            _check_batch(adapter, values, answer, size, tolerance)
        yield answer


def _check_batch(
    adapter: Adapter, values: Sequence[Value], together: Sequence[Value], size: int, tolerance: float
) -> None:
    for place, value in enumerate(together):
        if len(value) != size:
            raise ProofError(f"output {place} is {describe(value)} for a batch of {size}: it has no row for each input")
    specs = [TensorSpec(f"output {place}", "", ()) for place in range(len(together))]
    for row in (slice(0, 1), slice(size - 1, size)):
        alone = adapter.answer([value[row] for value in values])
        check_rows_independent(specs, alone, [value[row] for value in together], size, tolerance)


def _outputs(
    adapter: Adapter, specs: Sequence[TensorSpec], answers: Sequence[tuple[Value, ...]]
) -> tuple[TensorSpec, ...]:
    labels = [output.label for output in flatten(adapter.call_network(*examples(specs, int(adapter.batched))))]
    if not labels:
        raise UnservableError("forward returns nothing; there must be at least one output")
    if len({len(answer) for answer in answers}) > 1:
        raise UnservableError("the number of outputs depends on the input; it must be fixed")
    outputs = tuple(
        TensorSpec(f"{label or 'OUTPUT'}__{place}", _datatype(column[0], place), _dims(column, adapter.batched))
        for place, (label, column) in enumerate(zip(labels, zip(*answers, strict=True), strict=True))
    )
    if getattr(adapter.network, "counts_vary", False):  # Even if every example gave the same number.
        return tuple(replace(spec, dims=(-1, *spec.dims[1:])) for spec in outputs)
    return outputs


def _datatype(value: Value, place: int) -> str:
    if isinstance(value, list):
        return "STRING"
    name = str(value.dtype).removeprefix("torch.")
    if name not in _DATATYPES:
        raise UnservableError(
            f"output {place} is of type {name}, which libtorch cannot pass to Triton; convert it in forward"
        )
    return _DATATYPES[name]


def _dims(column: Sequence[Value], batched: bool) -> tuple[int, ...]:
    shapes = [(len(value),) if isinstance(value, list) else tuple(value.shape)[int(batched) :] for value in column]
    if len({len(shape) for shape in shapes}) > 1:
        raise UnservableError("the number of an output's dimensions depends on the input; it must be fixed")
    # A dim of 0 is taken for a variable one.
    return tuple(sizes[0] if len(set(sizes)) == 1 and sizes[0] else -1 for sizes in zip(*shapes, strict=True))


def _notes(adapter: Adapter, specs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Iterator[str]:
    # How the served file's outputs differ from the network's, and outputs that never change.
    returned = adapter.call_network(*examples(specs, int(adapter.batched)))
    names = ", ".join(spec.name for spec in outputs)
    if isinstance(returned, Mapping):
        yield f"forward returns a dict; the served file returns a tuple of its values, sorted by key: {names}"
    elif hasattr(returned, "_fields"):
        yield f"forward returns a {type(returned).__name__}; the served file returns a tuple of its fields: {names}"
    for place in _constant_outputs(adapter, specs):
        yield f"{outputs[place].name} is the same for every input; with such weights the proofs show little about it"
    for output, spec in zip(flatten(returned), outputs, strict=True):
        if not isinstance(output.value, list) and output.value.ndim <= adapter.batched:
            yield f"{spec.name} has no dimension besides the batch; Triton needs one, so it is served as [1]"


def _constant_outputs(adapter: Adapter, specs: Sequence[TensorSpec]) -> list[int]:
    first = adapter.answer(examples(specs, int(adapter.batched)))
    constant = list(range(len(first)))
    # Integers are drawn from 0 and 1 only, so that two draws are often the same.
    for seed in range(1, 12):
        if not constant:
            break
        row = adapter.answer(examples(specs, int(adapter.batched), seed))
        constant = [at for at in constant if describe(row[at]) == describe(first[at])]
        constant = [at for at in constant if distance(row[at], first[at]) == 0]
    return constant
