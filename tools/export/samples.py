"""What a network is tried with: random inputs, values from ranges or files of examples, and rows unlike each other."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from clients.contract import TensorSpec
from tools.contract import Value, example_value, torch_dtype

Shapes = Mapping[str, tuple[int, ...]]  # Dims by input.
Range = tuple[float, float]  # The least and the largest value.
_EXTREME = 1e6
# The rows that a network is tried with, by what is special about their floats. The last one must stay the last: NaN
# hides others from comparisons such as `x.max() > 1`.
_FLOATS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "random numbers": lambda x: x,
    "halves": lambda x: torch.full_like(x, 0.5),
    "zeros": torch.zeros_like,
    "ones": torch.ones_like,
    "negative numbers": lambda x: -x.abs(),
    "tiny numbers": lambda x: x * 1e-6,
    "huge numbers": lambda x: x * 1e4,
    "one extreme number": lambda x: _with_middle(x, min(_EXTREME, torch.finfo(x.dtype).max)),
    "a NaN": lambda x: _with_middle(x, torch.nan),
}
# Of those, the ones of ordinary size: answers to them do not depend on the order of additions.
_PLAIN = 5


@dataclass(frozen=True)
class Row:
    """One row as a batch of one (or an input without a batch), and what is special about it."""

    kind: str
    is_plain: bool  # Whether its numbers are of ordinary size.
    values: list[Value]


@dataclass(frozen=True)
class Samples:
    """Which inputs to try.

    Attributes:
        dims: sets of shapes by input, where config.pbtxt leaves dims variable.
        ranges: the least and the largest value of an input; others get normal floats, 0 and 1, or pixels (UINT8).
        given: examples of whole inputs without the batch, by name; no others are drawn for these inputs.
    """

    dims: Sequence[Shapes] = ()
    ranges: Mapping[str, Range] = field(default_factory=dict)
    given: Sequence[Mapping[str, Value]] = ()

    def shaped(self, inputs: Sequence[TensorSpec]) -> list[dict[str, TensorSpec]]:
        """Return the inputs by name with each of the sets of shapes, or once unchanged if there are none."""
        return [
            {spec.name: replace(spec, dims=shapes.get(spec.name, spec.dims)) for spec in inputs}
            for shapes in self.dims or [{}]
        ]

    def draw(self, specs: Sequence[TensorSpec], batch: int, seed: int = 0) -> list[Value]:
        """Draw inputs that the specs admit, as a batch; batch 0 for no batch dimension."""
        generator = torch.Generator().manual_seed(seed)
        given = self._fitting(specs)
        return [self._value(spec, batch, seed, given, generator) for spec in specs]

    def unlike(self, specs: Sequence[TensorSpec], is_batched: bool = True) -> list[Row]:
        """Make rows that differ as much as the inputs allow: zeros, tiny, huge, extreme and negative numbers, NaN."""
        given = self._fitting(specs)
        rows = [Row(f"example {at}", True, self.draw(specs, int(is_batched), at)) for at in range(len(given[:8]))]
        for at, kind in enumerate(_FLOATS):
            values = self.draw(specs, int(is_batched), at)
            changed = [self._unlike(spec, kind, value, given) for spec, value in zip(specs, values, strict=True)]
            rows.append(Row(kind, at < _PLAIN, changed))
        return list(_distinct(rows))

    def shapes(self, specs: Sequence[TensorSpec]) -> list[Sequence[TensorSpec]]:
        """List the different shapes of the given examples."""
        dims = [{name: _dims(value) for name, value in row.items()} for row in self.given]
        distinct = [shapes for at, shapes in enumerate(dims) if shapes not in dims[:at]]
        return [[replace(spec, dims=shapes.get(spec.name, spec.dims)) for spec in specs] for shapes in distinct]

    def takes_zeros(self, name: str) -> bool:
        """Whether an input of zeros may be one of its values."""
        low, high = self.ranges.get(name, (0.0, 0.0))
        return low <= 0 <= high and not any(name in row for row in self.given)

    def are_guessed(self, spec: TensorSpec) -> bool:
        """Whether an input's values are 0 and 1 for want of anything better."""
        return spec.datatype.startswith("INT") and not any(spec.name in known for known in (self.ranges, *self.given))

    def _fitting(self, specs: Sequence[TensorSpec]) -> list[Mapping[str, Value]]:
        dims = {spec.name: spec.dims for spec in specs}
        return [row for row in self.given if all(_dims(value) == dims.get(name) for name, value in row.items())]

    def _value(
        self, spec: TensorSpec, batch: int, seed: int, given: Sequence[Mapping[str, Value]], generator: torch.Generator
    ) -> Value:
        chosen = [given[(seed + at) % len(given)] for at in range(max(batch, 1))] if given else []
        values = [row[spec.name] for row in chosen if spec.name in row]
        if values:
            tensors = [value for value in values if isinstance(value, Tensor)]
            return torch.stack(tensors) if batch and tensors else values[0]
        if spec.name not in self.ranges:
            return example_value(spec, batch, generator)
        low, high = self.ranges[spec.name]
        shape, dtype = [batch] * (batch > 0) + list(spec.dims), torch_dtype(spec)
        if dtype.is_floating_point:
            return (low + (high - low) * torch.rand(shape, generator=generator)).to(dtype)
        return torch.randint(int(low), int(high) + 1, shape, generator=generator, dtype=dtype)

    def _unlike(self, spec: TensorSpec, kind: str, value: Value, given: Sequence[Mapping[str, Value]]) -> Value:
        if isinstance(value, list):
            return value
        if spec.name in self.ranges:
            return _within(value, kind, *self.ranges[spec.name])
        if value.is_floating_point():
            return _FLOATS[kind](value)
        if given and spec.name in given[0]:
            return value
        return _within(value, kind, 0, 255 if value.dtype == torch.uint8 else 1)


def _within(value: Tensor, kind: str, low: float, high: float) -> Tensor:
    # The row of a kind where only some values are allowed.
    constants = {"halves": (low + high) / 2, "zeros": low, "ones": high}
    if kind in constants:
        return torch.full_like(value, constants[kind])
    if kind == "negative numbers":
        is_even = torch.arange(value.numel()).reshape(value.shape) % 2 == 0
        return torch.where(is_even, low, high).to(value.dtype)
    return value


def _with_middle(x: Tensor, number: float) -> Tensor:
    changed = x.clone()
    changed.view(-1)[x.numel() // 2] = number
    return changed


def _dims(value: Value) -> tuple[int, ...]:
    return (len(value),) if isinstance(value, list) else tuple(value.shape)


def _distinct(rows: Iterable[Row]) -> Iterable[Row]:
    seen: list[Row] = []
    for row in rows:
        if not any(all(map(_is_same, row.values, other.values)) for other in seen):
            seen.append(row)
            yield row


def _is_same(one: Value, other: Value) -> bool:
    if isinstance(one, list) or isinstance(other, list):
        return one == other
    return torch.equal(one, other)
