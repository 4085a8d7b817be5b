"""Sizes for dims of -1: the first that the network takes, further ones, and steps between them that it takes."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from clients.contract import TensorSpec
from tools.export.agreement import ProofError

Sizes = tuple[int, ...]  # For the first dim of -1 of each input, the second, and so on; the last one holds for more.
Inputs = Sequence[TensorSpec]
Try = Callable[[Inputs], object]  # Calls the network; raises ProofError.
# Smallest first: what a large size costs, only networks that take no smaller one pay.
_SIZES = (8, 16, 32, 64, 128, 224, 256, 384, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
_STEPS = (1, 2, 4, 8, 16, 32, 64)
_OTHERS = 16  # The size of other inputs, where one size for all of them does not work.
_MOST_NUMBERS = 2**23  # In one input.


@dataclass(frozen=True)
class Found:
    """Shapes that work: those to prove the model with, the first to warm it up with, and what is known of others."""

    shapes: list[Inputs]
    remark: str


def find(specs: Inputs, attempt: Try, named: Sequence[Sizes] = ()) -> Found:
    """Find sizes that the network takes, or prove the named ones; ProofError if there are none."""
    if named:
        chosen: list[Inputs] = [_sized(specs, sizes) for sizes in named]
        for shape in chosen:
            attempt(shape)
        return Found(chosen, "other sizes were not tried")
    first = _first(specs, attempt)
    shapes = [first, *_accepted(attempt, (_grown(specs, first, factor) for factor in (1.5, 2, 3)))]
    steps = [(step, _grown(specs, first, 1, step)) for step in _STEPS]
    step = next(((step, shape) for step, shape in steps if _takes(attempt, shape)), None)
    shapes += [step[1]] if step else []
    for alone in _apart(specs):
        shapes += _accepted(attempt, (_grown(specs, first, factor, only=alone) for factor in (2, 3)))
    works = f"the smallest step that works from the first is {step[0]}" if step else "no size close to the first works"
    return Found([*{tuple(spec.dims for spec in shape): shape for shape in shapes}.values()], works)


def _first(specs: Inputs, attempt: Try) -> Inputs:
    # One size for all inputs, else one that differs from the others'.
    failures: dict[str, str] = {}
    names = [spec.name for spec in specs if -1 in spec.dims]
    for name in ("", *(names if len(names) > 1 else [])):
        tried, waiting = list[int](), list(_SIZES)
        while waiting:
            size = waiting.pop(0)
            shape = [_sized([spec], (size if name in ("", spec.name) else _OTHERS,))[0] for spec in specs]
            if size in tried or not _is_affordable(shape):
                continue
            tried.append(size)
            try:
                attempt(shape)
            except ProofError as error:
                failures[re.sub(r"\d+", "N", str(error))] = str(error)
                # Errors often name the size that is wanted.
                numbers = map(int, re.findall(r"(?<![\d.])\d{2,5}(?!\d|\.\d)", str(error)))
                waiting[:0] = [number for number in numbers if number not in tried and number <= _SIZES[-1]][:4]
            else:
                return shape
    raise ProofError(
        f"of {_SIZES[0]} to {_SIZES[-1]}, no size for the dims of -1 works ({'; '.join([*failures.values()][-2:])}); "
        "name one that does: --sizes N"
    )


def _sized(specs: Inputs, sizes: Sizes) -> list[TensorSpec]:
    def dims(spec: TensorSpec) -> Iterator[int]:
        at = 0
        for dim in spec.dims:
            yield dim if dim >= 0 else sizes[min(at, len(sizes) - 1)]
            at += dim < 0

    return [replace(spec, dims=tuple(dims(spec))) for spec in specs]


def _grown(
    specs: Inputs, shape: Inputs, factor: float, step: int = 0, only: Sequence[tuple[str, int]] | None = None
) -> Inputs:
    # The shape with larger sizes for all dims of -1, or for some, given by input and place.
    def dims(spec: TensorSpec, sized: TensorSpec) -> Iterator[int]:
        for place, (dim, now) in enumerate(zip(spec.dims, sized.dims, strict=True)):
            yield int(factor * now) + step if dim < 0 and (only is None or (spec.name, place) in only) else now

    return [replace(spec, dims=tuple(dims(spec, sized))) for spec, sized in zip(specs, shape, strict=True)]


def _apart(specs: Inputs) -> Iterator[list[tuple[str, int]]]:
    # Dims of -1 that may differ from the others: those of one input, and the last one of each.
    places = {spec.name: [(spec.name, at) for at, dim in enumerate(spec.dims) if dim < 0] for spec in specs}
    varying = [own for own in places.values() if own]
    yield from varying if len(varying) > 1 else []
    if any(len(own) > 1 for own in varying):
        yield list(chain.from_iterable(own[-1:] for own in varying))


def _accepted(attempt: Try, shapes: Iterator[Inputs]) -> list[Inputs]:
    # The first that the network takes, if any.
    return next(([shape] for shape in shapes if _takes(attempt, shape)), [])


def _is_affordable(shape: Inputs) -> bool:
    return all(math.prod(spec.dims) <= _MOST_NUMBERS for spec in shape)


def _takes(attempt: Try, shape: Inputs) -> bool:
    try:
        return _is_affordable(shape) and attempt(shape) is None
    except ProofError:
        return False
