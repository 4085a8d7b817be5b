"""How far served answers are from the expected ones, row by row, and which output is worst."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clients.contract import Array

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """Two sets of answers to the same rows.

    Attributes:
        absolute: the largest difference of a number in each row, [rows].
        relative: the same as a share of the row's largest expected number in that output, [rows].
        excess: the same in multiples of the limit, [rows]; above 1 is too far.
        output: the worst output of each row.
    """

    expected: Mapping[str, Array]
    served: Mapping[str, Array]
    absolute: Floats
    relative: Floats
    excess: Floats
    output: tuple[str, ...]


def difference(expected: Mapping[str, Array], served: Mapping[str, Array], tolerance: float) -> Difference:
    """Compare answers to the same rows, arrays [rows, …] by output name.

    The tolerance is absolute, and relative to the expected number, as in numpy's allclose.
    """
    names, ambiguous = list(expected), _is_ambiguous(expected, tolerance)
    outputs = [_output_difference(expected[name], served[name], tolerance, ambiguous) for name in names]
    absolute, relative, excess = np.stack(outputs, axis=1)  # each [outputs, rows]
    worst = tuple(names[index] for index in excess.argmax(0))
    return Difference(expected, served, absolute.max(0), relative.max(0), excess.max(0), worst)


def _output_difference(expected: Array, served: Array, tolerance: float, ambiguous: npt.NDArray[np.bool_]) -> Floats:
    """Absolute and relative difference and excess of each row of one output: [3, rows]."""
    rows = len(expected)
    if expected.shape != served.shape:
        # Rows are compared, so a wrong shape is as wrong as can be in each of them.
        return np.full((3, rows), np.inf)
    before, after = expected.reshape(rows, -1), served.reshape(rows, -1)
    if np.issubdtype(expected.dtype, np.floating):
        return _float_difference(before.astype(np.float64), after.astype(np.float64), tolerance)
    if expected.dtype == object:
        pairs = (zip(*row, strict=True) for row in zip(before, after, strict=True))
        wrong = np.array([max(_text_excess(*texts, tolerance) for texts in row) for row in pairs])
    else:
        wrong = np.where((before != after).any(1), np.inf, 0.0)
    return np.stack([np.zeros(rows), np.zeros(rows), np.where(ambiguous, 0.0, wrong)])


def _float_difference(expected: Floats, served: Floats, tolerance: float) -> Floats:
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        apart = np.nan_to_num(np.abs(expected - served), nan=np.inf, posinf=np.inf)
    apart[(np.isnan(expected) & np.isnan(served)) | (expected == served)] = 0.0
    size = np.abs(np.nan_to_num(expected))
    largest = size.max(1) + np.finfo(np.float64).tiny
    excess = apart / (tolerance + tolerance * size)
    return np.stack([apart.max(1), apart.max(1) / largest, excess.max(1)])


def _text_excess(expected: bytes | str, served: bytes | str, tolerance: float) -> float:
    """0 for equal texts, the excess of their numbers for JSON that is equal otherwise, else infinity."""
    if expected == served:
        return 0.0
    try:
        return _json_excess(json.loads(expected), json.loads(served), tolerance)
    except ValueError:
        return float("inf")


def _json_excess(expected: Any, served: Any, tolerance: float) -> float:
    if isinstance(expected, float) and isinstance(served, float):
        return abs(expected - served) / (tolerance + tolerance * abs(expected))
    if isinstance(expected, dict) and isinstance(served, dict) and expected.keys() == served.keys():
        return max((_json_excess(part, served[key], tolerance) for key, part in expected.items()), default=0.0)
    if isinstance(expected, list) and isinstance(served, list) and len(expected) == len(served):
        return max((_json_excess(*parts, tolerance) for parts in zip(expected, served, strict=True)), default=0.0)
    return 0.0 if expected == served else float("inf")


def _is_ambiguous(expected: Mapping[str, Array], tolerance: float) -> npt.NDArray[np.bool_]:
    """Whether a row's two best scores are so close that the tolerance may change its class: [rows]."""
    scores = next((array for array in expected.values() if _is_scores(array)), None)
    if scores is None:
        return np.zeros(len(next(iter(expected.values()))), np.bool_)
    second, best = np.sort(scores, axis=1)[:, -2:].astype(np.float64).T
    return np.asarray(best - second <= 2 * tolerance * (1 + np.abs(best)), np.bool_)


def _is_scores(array: Array) -> bool:
    """Whether an output can be scores of classes: [rows, two or more] floating-point numbers."""
    return array.ndim == 2 and array.shape[1] > 1 and bool(np.issubdtype(array.dtype, np.floating))
