"""The trial of a network: whether it takes batches, which dims vary, and names and types of its outputs.

Nothing is assumed: the first dimension counts as the batch only if the network answers at several batch sizes and
gives each row the answer that the row gets alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from clients.contract import TensorSpec
from tools.backends.pytorch.binding import TORCH_DTYPES
from tools.contract import Value
from tools.export.adapter import Adapter, call_for, flatten
from tools.export.advice import what_changes
from tools.export.agreement import (
    BATCH_TOLERANCE,
    DependentRowsError,
    ProofError,
    UnservableError,
    check_rows_independent,
    describe,
    distance,
    is_close,
)
from tools.export.company import prove_rows_independent
from tools.export.samples import Row, Samples
from tools.new import sizes
from tools.new.remedy import in_order, remedy
from tools.new.sizes import Sizes

_DATATYPES = {torch_name: name.removeprefix("TYPE_") for name, torch_name in TORCH_DTYPES.items()}


@dataclass(frozen=True)
class Observed:
    """What the trial of a network has shown."""

    batched: bool  # Whether the first dimension of every tensor is the batch.
    inputs: tuple[TensorSpec, ...]  # Names, types and dims for config.pbtxt; -1 for a variable dim.
    outputs: tuple[TensorSpec, ...]
    dims: tuple[Mapping[str, tuple[int, ...]], ...]  # The shapes that were tried, by input, if dims vary.
    remark: str  # What is known of other shapes, if dims vary.
    squeezed: tuple[str, ...]  # Arguments that `forward` takes without their dimension of 1 in config.pbtxt.
    why_unbatched: str  # Why it takes no batches, if that was found out.
    notes: tuple[str, ...]  # What the model's owner should know.


@dataclass(frozen=True)
class Effort:
    """With what a network is tried."""

    samples: Samples = field(default_factory=Samples)
    sizes: tuple[Sizes, ...] = ()  # For dims of -1; empty to search for some.
    tolerance: float = BATCH_TOLERANCE  # How far a row's answer may be from the one that it gets alone.


def observe(
    network: nn.Module, inputs: Sequence[TensorSpec], batched: bool | None = None, effort: Effort | None = None
) -> Observed:
    """Try a network with inputs of these names and types.

    Args:
        network: in eval mode.
        inputs: names of `forward`'s parameters, types, and dims without the batch; -1 for a variable dim.
        batched: whether it takes batches; None to find out.
        effort: with what to try it.

    Raises:
        ProofError: it cannot be called this way, or its outputs cannot be served.
    """
    squeezed = tuple(spec.name for spec in inputs if not spec.dims)
    specs = tuple(replace(spec, dims=spec.dims or (1,)) for spec in inputs)
    call = call_for(network, [spec.name for spec in specs], squeezed)
    effort, failures = effort or Effort(), dict[bool, ProofError]()
    for choice in (True, False) if batched is None else (batched,):
        if choice and any(spec.datatype == "STRING" for spec in specs):
            failures[choice] = ProofError("texts (List[str]) are served without batches")
            continue
        try:
            return _attempt(Adapter(network, call, choice), specs, effort, str(failures.get(True, "")))
        except UnservableError:
            raise
        except ProofError as error:
            failures[choice] = error
    if isinstance(failures.get(True), DependentRowsError) and batched is None and not effort.samples.given:
        # It needs the dimension of the batch: then each request is a batch of one.
        rows = tuple(replace(spec, dims=(1, *spec.dims)) for spec in specs)
        with suppress(ProofError):
            return _attempt(Adapter(network, call, False), rows, effort, str(failures[True]))
    listed = "; ".join(f"{'with' if batched else 'without'} batches: {error}" for batched, error in failures.items())
    raise ProofError(f"{listed}. {remedy(Adapter(network, call, False), specs, effort.samples)}")


def _attempt(adapter: Adapter, specs: tuple[TensorSpec, ...], effort: Effort, why_unbatched: str) -> Observed:
    shapes, remark = _concrete_shapes(adapter, in_order(adapter, specs), effort)
    rows = effort.samples.unlike(shapes[0], adapter.batched)
    answers = [answer for shape in shapes for answer in _answers(adapter, shape, effort)]
    returned = adapter.call_network(*effort.samples.draw(shapes[0], int(adapter.batched)))
    outputs = _outputs(adapter, returned, [*answers, *_alone(adapter, rows)])
    constant = _constant_outputs(adapter, effort.samples, shapes[0])
    refused: list[str] = []
    if adapter.batched:
        names = [spec.name for spec in outputs]
        refused = prove_rows_independent(adapter.answer, rows, names, effort.tolerance)
    variable = {spec.name for spec in specs if -1 in spec.dims}
    return Observed(
        batched=adapter.batched,
        inputs=specs,
        outputs=outputs,
        dims=tuple({spec.name: spec.dims for spec in shape if spec.name in variable} for shape in shapes if variable),
        remark=remark,
        squeezed=tuple(sorted(adapter.call.squeezed)),
        why_unbatched=why_unbatched,
        notes=(*_notes(adapter, returned, constant, outputs), *_refusals(refused)),
    )


def _concrete_shapes(
    adapter: Adapter, specs: Sequence[TensorSpec], effort: Effort
) -> tuple[list[Sequence[TensorSpec]], str]:
    # Several shapes if dims vary, with a remark about others; or the inputs once as they are.
    if not any(-1 in spec.dims for spec in specs):
        return [list(specs)], ""
    if given := effort.samples.shapes(specs):
        return given, "other sizes were not tried"

    def attempt(sized: Sequence[TensorSpec]) -> None:
        adapter.answer(effort.samples.draw(sized, int(adapter.batched)))

    found = sizes.find(specs, attempt, effort.sizes)
    return found.shapes, found.remark


def _answers(adapter: Adapter, specs: Sequence[TensorSpec], effort: Effort) -> Iterator[tuple[Value, ...]]:
    # At several batch sizes, or for several inputs without a batch.
    for size in (2, 3):
        values = effort.samples.draw(specs, size if adapter.batched else 0, size)
        answer, again = adapter.answer(values), adapter.answer(values)
        for first, second in zip(answer, again, strict=True):
            if describe(first) != describe(second) or not is_close(first, second, effort.tolerance):
                raise UnservableError(_why_answers_differ(adapter, values))
        if adapter.batched:
            _check_batch(adapter, values, answer, size, effort.tolerance)
        yield answer


def _why_answers_differ(adapter: Adapter, values: Sequence[Value]) -> str:
    changed = what_changes(adapter.network, lambda: adapter.answer(values))
    if not changed:
        return "forward gives the same input different answers; it must not draw random numbers in eval mode"
    return (
        f"forward gives the same input different answers, because each call changes {', '.join(changed[:3])}; a served "
        "model keeps nothing between requests: take what it keeps as an input, and return it"
    )


def _alone(adapter: Adapter, rows: Sequence[Row]) -> Iterator[tuple[Value, ...]]:
    # The answers to rows of ordinary numbers, as far as the network gives any.
    for row in rows:
        if row.is_plain:
            with suppress(ProofError):
                yield adapter.answer(row.values)


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


def _outputs(adapter: Adapter, returned: Any, answers: Sequence[tuple[Value, ...]]) -> tuple[TensorSpec, ...]:
    labels = [output.label for output in flatten(returned)]
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


def _notes(adapter: Adapter, returned: Any, constant: Sequence[int], outputs: Sequence[TensorSpec]) -> Iterator[str]:
    # How the served file's outputs differ from the network's, and outputs that never change.
    names = ", ".join(spec.name for spec in outputs)
    if isinstance(returned, Mapping):
        kind = type(returned).__name__
        yield f"forward returns a {kind}; the served file returns a tuple of its values, sorted by key: {names}"
    elif hasattr(returned, "_fields"):
        yield f"forward returns a {type(returned).__name__}; the served file returns a tuple of its fields: {names}"
    for place in constant:
        yield f"{outputs[place].name} is the same for every input; with such weights the proofs show little about it"
    for output, spec in zip(flatten(returned), outputs, strict=True):
        if not isinstance(output.value, list) and output.value.ndim <= adapter.batched:
            yield f"{spec.name} has no dimension besides the batch; Triton needs one, so it is served as [1]"


def _refusals(refused: Sequence[str]) -> Iterator[str]:
    if refused:
        more = f", and {len(refused) - 1} further kinds of rows" if len(refused) > 1 else ""
        yield f"such a request fails its whole batch: {refused[0]}{more}"


def _constant_outputs(adapter: Adapter, samples: Samples, specs: Sequence[TensorSpec]) -> list[int]:
    first = adapter.answer(samples.draw(specs, int(adapter.batched)))
    constant = list(range(len(first)))
    # Integers may be drawn from 0 and 1 only, so that two draws are often the same.
    for seed in range(1, 12):
        if not constant:
            break
        row = adapter.answer(samples.draw(specs, int(adapter.batched), seed))
        constant = [at for at in constant if describe(row[at]) == describe(first[at])]
        constant = [at for at in constant if distance(row[at], first[at]) == 0]
    return constant
