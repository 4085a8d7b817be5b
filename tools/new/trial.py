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
    is_close,
)
from tools.new import notes

_BATCHES = (2, 3)
# Sizes to try for variable dimensions: the first that the network takes, and that plus a half.
_SIZES = (8, 32, 64, 224)
_DATATYPES = {torch_name: name.removeprefix("TYPE_") for name, torch_name in TORCH_DTYPES.items()}


@dataclass(frozen=True)
class Observed:
    """What the trial of a network has shown.

    Attributes:
        batched: whether the first dimension of every tensor is the batch.
        inputs, outputs: names, types and dims for config.pbtxt; -1 for a variable dim.
        dims: the shapes that were tried, by input, if dims vary.
        squeezed: arguments that `forward` takes without the dimension of 1 that they have in config.pbtxt.
        why_unbatched: why it takes no batches, if that was found out.
        notes: what the model's owner should know.
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
    raise ProofError(_failure(reasons, specs))


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
        notes=tuple(notes.of_network(adapter, shapes[0], outputs)),
    )


def _concrete_shapes(adapter: Adapter, specs: Sequence[TensorSpec]) -> Iterator[list[TensorSpec]]:
    # Two sizes for variable dims; or the inputs once as they are.
    if not any(-1 in spec.dims for spec in specs):
        yield list(specs)
        return
    for size in _SIZES:
        shape = _with_size(specs, size)
        try:
            adapter.answer(examples(shape, int(adapter.batched)))
        except ProofError:
            if size == _SIZES[-1]:
                raise
            continue
        yield shape
        yield _with_size(specs, size + size // 2)
        return


def _with_size(specs: Sequence[TensorSpec], size: int) -> list[TensorSpec]:
    return [replace(spec, dims=tuple(size if dim < 0 else dim for dim in spec.dims)) for spec in specs]


def _answers(adapter: Adapter, specs: Sequence[TensorSpec], tolerance: float) -> list[tuple[Value, ...]]:
    # At several batch sizes, or for several inputs without a batch.
    answers = []
    for size in _BATCHES:
        values = examples(specs, size if adapter.batched else 0, size)
        answers.append(adapter.answer(values))
        _check_repeatable(answers[-1], adapter.answer(values), tolerance)
        if adapter.batched:
            _check_batch(adapter, values, answers[-1], size, tolerance)
    return answers


def _check_repeatable(first: Sequence[Value], second: Sequence[Value], tolerance: float) -> None:
    pairs = list(zip(first, second, strict=True))
    if any(describe(one) != describe(other) or not is_close(one, other, tolerance) for one, other in pairs):
        raise UnservableError(
            "forward gives the same input different answers; it must not draw random numbers in eval mode"
        )


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


def _failure(reasons: Mapping[bool, str], specs: Sequence[TensorSpec]) -> str:
    inputs = ",".join(f"{spec.name}:{spec.datatype}[{','.join(map(str, (4, *spec.dims)))}]" for spec in specs)
    listed = "; ".join(f"{'with' if batched else 'without'} batches: {reason}" for batched, reason in reasons.items())
    return (
        f"{listed}. Correct --example-inputs; if the network takes one fixed batch size, give it as a dimension and "
        f"serve without batches: --max-batch-size 0 --example-inputs '{inputs}'"
    )
