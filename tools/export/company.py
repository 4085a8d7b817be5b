"""The proof that no row of a batch changes another's answer: rows unlike each other, alone and in each other's company.

A batch holds requests of several callers, so a branch on the whole batch (`if x.max() > 1.5`) would let one of them
change what the others get. Rows of one distribution never cross such a branch; `Samples.unlike` makes rows that do.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import torch
from torch import Tensor

from tools.contract import Value
from tools.export.agreement import DependentRowsError, ProofError, describe, distance, is_close
from tools.export.samples import Row

Answer = Callable[[Sequence[Value]], Sequence[Value]]  # A network that raises ProofError where it fails.
Answers = Sequence[Value]
# Pairs that a slow network leaves no time for are left out; the batches of all rows come first.
_SECONDS = 10.0


def prove_rows_independent(
    answer: Answer, rows: Sequence[Row], names: Sequence[str], tolerance: float, largest: int | None = None
) -> list[str]:
    """Raise ProofError unless each row gets the same answer alone as in every mix of at most `largest` rows.

    Args:
        answer: answers a batch.
        rows: batches of one, unlike each other.
        names: the outputs' names, for the message.
        tolerance: how far an answer may be from the one that the row gets alone, relative to its largest number.
        largest: how many rows a batch may have; None for all of them.

    Returns why the network refused rows that it got alone; such rows are left out.
    """
    company, refusals = list[tuple[Row, Answers]](), list[str]()
    for row in rows:
        try:
            company.append((row, answer(row.values)))
        except ProofError as error:
            refusals.append(f"a row of {row.kind}: {error}")
    if not company:
        raise ProofError(f"every row is refused alone: {refusals[0]}")
    began = time.monotonic()
    for mix in _mixes(len(company), largest or len(company)):
        try:
            _check_mix(answer, [company[at] for at in mix], names, tolerance)
        except DependentRowsError:
            # Two rows explain more than many, if two are enough.
            for pair in combinations(company, 2) if len(mix) > 2 else ():
                _check_mix(answer, pair, names, tolerance)
            raise
        if time.monotonic() - began > _SECONDS:
            break
    return refusals


def _mixes(count: int, largest: int) -> Iterator[tuple[int, ...]]:
    everyone = tuple(range(count))
    if min(count, largest) > 2:
        yield from (everyone[:largest], everyone[::-1][:largest], everyone[:-1][:largest], (0, 1, 0))
    if largest > 1:
        yield from (pair if sum(pair) % 2 else pair[::-1] for pair in combinations(everyone, 2))


def _check_mix(answer: Answer, mix: Sequence[tuple[Row, Answers]], names: Sequence[str], tolerance: float) -> None:
    together = _answer_all(answer, [row for row, _ in mix])
    for place, (row, alone) in enumerate(mix):
        found = _row(together, place)
        if all(_is_same(*pair, tolerance) for pair in zip(alone, found, strict=True)):
            continue
        # Kernels for one row and for many round differently. In a batch of copies they round as in this one.
        copies = _row(_answer_all(answer, [row] * len(mix)), place)
        if all(_is_same(*pair, tolerance) for pair in zip(copies, found, strict=True)) and (
            not row.is_plain or all(is_close(*pair, tolerance) for pair in zip(alone, found, strict=True))
        ):
            continue
        changed = [pair for pair in zip(names, alone, found, strict=False) if not _is_same(*pair[1:], tolerance)]
        name, expected, actual = (changed or [(names[0], alone[0], found[0])])[0]
        others = ", ".join(dict.fromkeys(other.kind for other, _ in mix if other is not row))
        raise DependentRowsError(name, f"for a row of {row.kind} beside {others}", expected, actual, tolerance)


def _answer_all(answer: Answer, rows: Sequence[Row]) -> Answers:
    columns = zip(*(row.values for row in rows), strict=True)
    answers = answer([torch.cat([value for value in column if isinstance(value, Tensor)]) for column in columns])
    for place, value in enumerate(answers):
        if len(value) != len(rows):
            raise ProofError(
                f"output {place} is {describe(value)} for a batch of {len(rows)}: it has no row for each input"
            )
    return answers


def _row(answers: Answers, place: int) -> Answers:
    return [value[place : place + 1] for value in answers]


def _is_same(expected: Value, actual: Value, tolerance: float) -> bool:
    # Relative to the row's largest number; answers that are small as a whole count as much as others.
    if describe(expected) != describe(actual):
        return False
    if isinstance(expected, list) or isinstance(actual, list) or not expected.is_floating_point():
        return distance(expected, actual) == 0
    sizes = torch.nan_to_num(expected.double(), posinf=0, neginf=0).abs()
    limit = 1e-9 + tolerance * (float(sizes.max()) if sizes.numel() else 0.0)
    return torch.allclose(expected.double(), actual.double(), rtol=0, atol=limit, equal_nan=True)
