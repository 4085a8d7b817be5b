"""How far served answers are from those that were expected: within a tolerance, or which rows are worst, and why."""

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
    """Two sets of answers, row by row.

    Attributes:
        absolute: the largest difference of a number in each row, [rows].
        relative: the same as a share of the row's largest expected number in that output, [rows].
        excess: how many times the limit that is, [rows]; above 1 is too far.
        output: which output of each row is worst.
    """

    absolute: Floats
    relative: Floats
    excess: Floats
    output: tuple[str, ...]


def difference(expected: Mapping[str, Array], served: Mapping[str, Array], tolerance: float) -> Difference:
    """Compare answers of the same rows; the limit is the tolerance, absolute plus relative to the expected number.

    Args:
        expected: arrays [rows, …] by output name.
        served: the same outputs.
        tolerance: as in numpy's allclose, for both.
    """
    close = close_calls(expected, tolerance)
    by_output = {name: one_output(array, served[name], tolerance, close) for name, array in expected.items()}
    excess = np.stack([three[2] for three in by_output.values()])
    names = list(by_output)
    return Difference(
        np.stack([three[0] for three in by_output.values()]).max(0),
        np.stack([three[1] for three in by_output.values()]).max(0),
        excess.max(0),
        tuple(names[index] for index in excess.argmax(0)),
    )


def one_output(expected: Array, served: Array, tolerance: float, close: Floats) -> tuple[Floats, Floats, Floats]:
    """Absolute and relative difference and excess of each row of one output."""
    if expected.shape != served.shape:
        # Rows are compared, so a wrong shape is as wrong as can be in each of them.
        return (np.full(len(expected), np.inf),) * 3
    if expected.dtype == object:
        pairs = zip(expected.reshape(len(expected), -1), served.reshape(len(served), -1), strict=True)
        excess = np.array([max(text_excess(*one, tolerance) for one in zip(*row, strict=True)) for row in pairs])
        return np.zeros(len(expected)), np.zeros(len(expected)), np.where(close > 0, 0.0, excess)
    wanted, found = (array.reshape(len(array), -1).astype(np.float64) for array in (expected, served))
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        apart = np.nan_to_num(np.abs(wanted - found), nan=np.inf, posinf=np.inf)
    apart[(np.isnan(wanted) & np.isnan(found)) | (wanted == found)] = 0.0
    if np.issubdtype(expected.dtype, np.floating):
        limit = tolerance + tolerance * np.abs(np.nan_to_num(wanted))
        largest = np.abs(np.nan_to_num(wanted)).max(1) + np.finfo(np.float64).tiny
        return apart.max(1), apart.max(1) / largest, (apart / limit).max(1)
    wrong = np.where(apart.any(1) & (close == 0), np.inf, 0.0)
    return np.zeros(len(wanted)), np.zeros(len(wanted)), wrong


def text_excess(expected: bytes | str, served: bytes | str, tolerance: float) -> float:
    """0 for equal texts, the excess of their numbers for JSON that is equal otherwise, else infinity."""
    if expected == served:
        return 0.0
    try:
        wanted, found = flat(json.loads(expected)), flat(json.loads(served))
    except ValueError:
        return float("inf")
    numbers = [one for one in wanted if isinstance(wanted[one], float) and isinstance(found.get(one), float)]
    if {**wanted, **dict.fromkeys(numbers)} != {**found, **dict.fromkeys(numbers)}:
        return float("inf")
    return max(
        (abs(float(wanted[one] - found[one])) / (tolerance + tolerance * abs(wanted[one])) for one in numbers),
        default=0.0,
    )


def flat(document: Any, path: str = "") -> dict[str, Any]:
    """A JSON document's values by their paths."""
    if isinstance(document, dict):
        return {key: one for name, part in document.items() for key, one in flat(part, f"{path}/{name}").items()}
    if isinstance(document, list):
        return {key: one for at, part in enumerate(document) for key, one in flat(part, f"{path}/{at}").items()}
    return {path: document}


def close_calls(expected: Mapping[str, Array], tolerance: float) -> Floats:
    """1 for rows whose two best scores are so close that the tolerance may change the class, else 0: [rows]."""
    rows = len(next(iter(expected.values())))
    scores = next((one for one in expected.values() if is_scores(one)), None)
    if scores is None:
        return np.zeros(rows)
    best = np.sort(scores, axis=1)[:, -2:].astype(np.float64)
    return np.where(best[:, 1] - best[:, 0] <= 2 * tolerance * (1 + np.abs(best[:, 1])), 1.0, 0.0)


def is_scores(array: Array) -> bool:
    """Whether an output can be scores of classes: [rows, two or more] floating-point numbers."""
    return array.ndim == 2 and array.shape[1] > 1 and bool(np.issubdtype(array.dtype, np.floating))
