"""Whether a version may be served, judged from its passes.

A version fails where an answer is further from the expected one than the tolerance, where a row's answer depends on
what it was sent with, or where accuracy is lost.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clients.contract import Array
from loadtest.analysis.intervals import paired_p_value, wilson_interval
from tools.datasets import Labels
from tools.export.pipelines import classes_of
from tools.verify.passes import Pass, Rows, Way
from tools.verify.references import HeldOut
from tools.verify.verification import Accuracy, Comparison, Example, Findings

Floats = npt.NDArray[np.float64]
# A served accuracy below the eager one fails when chance would show such a loss less often than this.
_SIGNIFICANCE = 0.01
_WORST = 3  # answers shown


@dataclass(frozen=True)
class Budget:
    """How much of another model's accuracy a model may lose."""

    model: str
    accuracy: float
    loss: float


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


def judge(
    findings: Findings,
    held: HeldOut,
    expected: Mapping[str, Array],
    alone: Pass,
    passes: Sequence[Pass],
    tolerance: float,
) -> None:
    """Add to the findings what the passes over one set show.

    `expected` are the answers to all of its rows by output name; `alone` is a pass of the common rows in ascending
    order, each with nothing else in flight.
    """
    for sent in (alone, *passes):
        judged = np.flatnonzero(~np.isin(sent.rows, held.company))
        rows = sent.rows[judged]
        apart = difference(_at(expected, rows), _at(sent.outputs, judged), tolerance)
        findings.sent += len(sent.rows)
        findings.max_abs = max(findings.max_abs, float(apart.absolute.max()))
        findings.max_rel = max(findings.max_rel, float(apart.relative.max()))
        _note_worst(findings, held, sent.way, rows, apart, "eager")
    for sent in passes:
        common = np.flatnonzero(np.isin(sent.rows, alone.rows) & ~np.isin(sent.rows, held.company))
        rows = sent.rows[common]
        before = _at(alone.outputs, np.searchsorted(alone.rows, rows))
        apart = difference(before, _at(sent.outputs, common), tolerance)
        findings.invariance = max(findings.invariance, float(apart.absolute.max()))
        _note_worst(findings, held, sent.way, rows, apart, "alone")
        if sent.way.size <= 1 and sent.batch is not None:
            findings.batch = max(findings.batch or 0.0, sent.batch)
    if held.labels is not None:
        for protocol in dict.fromkeys(sent.way.protocol for sent in passes):
            own = [sent for sent in passes if sent.way.protocol == protocol]
            findings.accuracies[protocol] = _accuracy(held, held.labels, own, expected)


def _at(answers: Mapping[str, Array], rows: Rows) -> dict[str, Array]:
    return {name: array[rows] for name, array in answers.items()}


def _note_worst(
    findings: Findings, held: HeldOut, way: Way, rows: Rows, apart: Difference, compared_with: Comparison
) -> None:
    """Count the answers that are too far off, and keep the worst of them, each row once."""
    findings.too_far[compared_with] += int((apart.excess > 1).sum())
    examples = [
        Example(
            row=int(rows[place]),
            label="" if held.labels is None else held.classes[int(held.labels[rows[place]])],
            way=str(way),
            output=apart.output[place],
            excess=float(apart.excess[place]),
            expected=_as_json(apart.expected[apart.output[place]][place]),
            served=_as_json(apart.served[apart.output[place]][place]),
            compared_with=compared_with,
        )
        for place in np.argsort(-apart.excess)[:_WORST]
        if apart.excess[place] > 1
    ]
    worst: dict[tuple[int, str], Example] = {}
    for example in sorted([*findings.worst, *examples], key=lambda example: -example.excess):
        worst.setdefault((example.row, example.compared_with), example)
    findings.worst = list(worst.values())[:_WORST]


def _as_json(array: Array) -> list[object]:
    """An answer's first numbers or texts; NaN, which JSON lacks, as text."""
    values = array.reshape(-1)[:10].tolist()
    texts = [value.decode(errors="replace") if isinstance(value, bytes) else value for value in values]
    return [str(value) if value != value else value for value in texts]


def _accuracy(held: HeldOut, labels: Labels, passes: Sequence[Pass], expected: Mapping[str, Array]) -> Accuracy:
    """Accuracy over one protocol; the first answer to each row counts."""
    unsent = -2  # -1 is a label that is none of the classes.
    served = np.full(held.rows, unsent, np.int64)
    for sent in reversed(passes):
        served[sent.rows] = classes_of(sent.outputs, held.classes)
    right = (served == labels)[served != unsent]
    eager = (classes_of(expected, held.classes) == labels)[served != unsent]
    low, high = wilson_interval(int(right.sum()), len(right))
    return Accuracy(float(right.mean()), low, high, float(eager.mean()), paired_p_value(right, eager))


def conclude(findings: Findings, tolerance: float, floor: float = 0.0, budget: Budget | None = None) -> None:
    """Add to the findings why the version must not be served; floor and budget are the recipe's."""
    failures = findings.failures
    others = {"eager": "the eager network's", "alone": "those that the same rows get alone"}
    for comparison, count in findings.too_far.items():
        if count:
            apart = f"differ from {others[comparison]} by more than {tolerance:g} absolute plus {tolerance:g} relative"
            failures.append(f"{count:,} of {findings.sent:,} answers {apart}")
    for protocol, accuracy in findings.accuracies.items():
        served = f"{accuracy.served:.2%} over {protocol}"
        if accuracy.served < accuracy.expected and accuracy.p_value < _SIGNIFICANCE:
            lost = f"{accuracy.expected:.2%} eager, {accuracy.served:.2%} served (p {accuracy.p_value:.1g})"
            failures.append(f"accuracy is lost over {protocol}: {lost}")
        if accuracy.served < floor:
            failures.append(f"{served} is below the recipe's floor of {floor:.2%}")
        if budget and accuracy.served < budget.accuracy - budget.loss:
            allowed = f"{budget.model}'s {budget.accuracy:.2%} less the recipe's budget of {budget.loss:.2%}"
            failures.append(f"{served} is below {allowed}")


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
    # Absolute and relative difference and excess of each row of one output: [3, rows].
    rows = len(expected)
    if expected.shape != served.shape:
        # Rows are compared, so a wrong shape is as wrong as can be in each of them.
        return np.full((3, rows), np.inf)
    before, after = expected.reshape(rows, -1), served.reshape(rows, -1)
    if np.issubdtype(expected.dtype, np.floating):
        before, after = before.astype(np.float64), after.astype(np.float64)
        with np.errstate(invalid="ignore"):  # infinity minus infinity
            apart = np.nan_to_num(np.abs(before - after), nan=np.inf, posinf=np.inf)
        apart[(np.isnan(before) & np.isnan(after)) | (before == after)] = 0.0
        size = np.abs(np.nan_to_num(before))
        largest = size.max(1) + np.finfo(np.float64).tiny
        excess = apart / (tolerance + tolerance * size)
        return np.stack([apart.max(1), apart.max(1) / largest, excess.max(1)])
    if expected.dtype == object:
        pairs = (zip(*row, strict=True) for row in zip(before, after, strict=True))
        wrong = np.array([max(_text_excess(*texts, tolerance) for texts in row) for row in pairs])
    else:
        wrong = np.where((before != after).any(1), np.inf, 0.0)
    return np.stack([np.zeros(rows), np.zeros(rows), np.where(ambiguous, 0.0, wrong)])


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
    # Whether a row's two best scores are so close that the tolerance may change its class: [rows].
    for array in expected.values():
        if array.ndim == 2 and array.shape[1] > 1 and np.issubdtype(array.dtype, np.floating):
            second, best = np.sort(array, axis=1)[:, -2:].astype(np.float64).T
            return np.asarray(best - second <= 2 * tolerance * (1 + np.abs(best)), np.bool_)
    return np.zeros(len(next(iter(expected.values()))), np.bool_)
