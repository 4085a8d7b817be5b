"""Whether a version may be served, judged from its passes.

A version fails where an answer is further from the expected one than the tolerance, where a row's answer depends on
what it was sent with, or where accuracy is lost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clients.contract import Array
from clients.golden import Difference, difference
from loadtest.analysis.intervals import paired_p_value, wilson_interval
from tools.datasets import Labels
from tools.export.pipelines import classes_of
from tools.verify.passes import Pass, Rows, Way
from tools.verify.references import HeldOut
from tools.verify.verification import Accuracy, Comparison, Example, Findings

# A served accuracy below the eager one fails when chance would show such a loss less often than this.
_SIGNIFICANCE = 0.01
_WORST = 3  # answers shown


@dataclass(frozen=True)
class Budget:
    """How much of another model's accuracy a model may lose."""

    model: str
    accuracy: float
    loss: float


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
