"""What a verification of one version found, and what of it must not be served.

A version fails where an answer is further from the expected one than the tolerance, where a row's answer depends on
what it was sent with, or where accuracy is lost on the way.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from clients.contract import Array
from tools.datasets import Labels
from tools.export.pipelines import classes_of
from tools.significance import Right, accuracy_interval, paired_p_value
from tools.verify.differences import Difference, difference
from tools.verify.heldout import HeldOut
from tools.verify.passes import Pass, Rows

# A served accuracy below the eager one fails when chance would show such a loss less often than this.
SIGNIFICANCE = 0.01
# So many of the worst answers are shown.
WORST = 3
# What answers are compared with, and what it means if they differ.
TOO_FAR = {
    "eager": "answers differ from the eager network's",
    "alone": "answers differ from those that the same rows get alone",
}


@dataclass(frozen=True)
class Example:
    """One answer that is too far off: which row, how it was sent, what came and what should have come."""

    row: int
    label: str
    way: str
    output: str
    excess: float
    expected: list[object]
    served: list[object]
    compared_with: str


@dataclass(frozen=True)
class Accuracy:
    """Of one protocol, beside the expected answers on the same rows; the interval is at 95 %."""

    served: float
    low: float
    high: float
    expected: float
    p_value: float


@dataclass
class Findings:
    """What the passes over one version showed.

    Attributes:
        max_abs, max_rel: the largest difference from the expected answers; relative to a row's largest number.
        invariance: the largest difference between a row's answer alone and in company.
        batch: the largest average of rows computed together among passes of single-row requests.
        sent: rows sent in all.
        too_far: how many answers were too far from the "eager" network's, and from those of the same row "alone".
    """

    max_abs: float = 0.0
    max_rel: float = 0.0
    invariance: float = 0.0
    batch: float | None = None
    sent: int = 0
    too_far: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOO_FAR, 0))
    accuracies: dict[str, Accuracy] = field(default_factory=dict)
    worst: list[Example] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def judge(
    findings: Findings,
    held: HeldOut,
    expected: Mapping[str, Array],
    alone: Pass,
    passes: Sequence[Pass],
    tolerance: float,
) -> None:
    """Add what the passes over one set show.

    Args:
        findings: added to.
        held: the rows.
        expected: the answers to all of them, by output name.
        alone: each common row with nothing else under way.
        passes: all others.
        tolerance: absolute and relative.
    """
    for one in (alone, *passes):
        compare(findings, held, one, at(expected, one.rows), tolerance)
    for one in passes:
        compare_alone(findings, held, alone, one, tolerance)
        if one.way.size <= 1 and one.batch is not None:
            findings.batch = max(findings.batch or 0.0, one.batch)
    if held.labels is not None:
        for protocol in dict.fromkeys(one.way.protocol for one in passes):
            own = [one for one in passes if one.way.protocol == protocol]
            findings.accuracies[protocol] = accuracy(held, held.labels, own, expected)


def at(answers: Mapping[str, Array], rows: Rows) -> dict[str, Array]:
    """Some rows of answers."""
    return {name: array[rows] for name, array in answers.items()}


def compare(findings: Findings, held: HeldOut, one: Pass, expected: Mapping[str, Array], tolerance: float) -> None:
    """One pass against what was expected."""
    found = difference(expected, one.outputs, tolerance)
    findings.sent += len(one.rows)
    findings.max_abs = max(findings.max_abs, float(found.absolute.max()))
    findings.max_rel = max(findings.max_rel, float(found.relative.max()))
    note_worst(findings, held, one, one.rows, found, expected, one.outputs, "eager")


def compare_alone(findings: Findings, held: HeldOut, alone: Pass, one: Pass, tolerance: float) -> None:
    """The answers to common rows in one pass against the answers that they had alone."""
    places = {row: place for place, row in enumerate(alone.rows.tolist())}
    common = np.array([place for place, row in enumerate(one.rows.tolist()) if row in places], np.int64)
    before = at(alone.outputs, np.array([places[row] for row in one.rows[common].tolist()], np.int64))
    served = at(one.outputs, common)
    found = difference(before, served, tolerance)
    findings.invariance = max(findings.invariance, float(found.absolute.max()))
    note_worst(findings, held, one, one.rows[common], found, before, served, "alone")


def note_worst(
    findings: Findings,
    held: HeldOut,
    one: Pass,
    rows: Rows,
    found: Difference,
    expected: Mapping[str, Array],
    served: Mapping[str, Array],
    compared_with: str,
) -> None:
    """Keep the worst of the answers that are too far off, each row once."""
    findings.too_far[compared_with] += int((found.excess > 1).sum())
    places = [int(place) for place in np.argsort(-found.excess)[:WORST] if found.excess[place] > 1]
    for place in places:
        row, output = int(rows[place]), found.output[place]
        label = "" if held.labels is None else held.classes[int(held.labels[row])]
        values = (shown(expected[output][place]), shown(served[output][place]))
        example = Example(row, label, str(one.way), output, float(found.excess[place]), *values, compared_with)
        findings.worst.append(example)
    findings.worst = list({(one.row, one.compared_with): one for one in ranked(findings.worst, reverse=False)}.values())
    findings.worst = ranked(findings.worst)[:WORST]


def ranked(examples: Iterable[Example], reverse: bool = True) -> list[Example]:
    """Examples by how far they are off, the worst first."""
    return sorted(examples, key=lambda one: one.excess, reverse=reverse)


def shown(array: Array) -> list[object]:
    """An answer's first numbers or texts, as JSON can hold them."""
    flat = array.reshape(-1)[:10].tolist()
    return [one.decode(errors="replace") if isinstance(one, bytes) else str(one) if one != one else one for one in flat]


def accuracy(held: HeldOut, labels: Labels, passes: Sequence[Pass], expected: Mapping[str, Array]) -> Accuracy:
    """How often answers over one protocol are right, each row by its first answer."""
    served = np.full(held.rows, -2, np.int64)
    for one in reversed(passes):
        served[one.rows] = classes_of(one.outputs, held.classes)
    asked = served != -2
    right: Right = (served == labels)[asked]
    eager: Right = (classes_of(expected, held.classes) == labels)[asked]
    low, high = accuracy_interval(right)
    return Accuracy(float(right.mean()), low, high, float(eager.mean()), paired_p_value(right, eager))


def conclude(findings: Findings, tolerance: float, floor: float, budget: tuple[str, float, float] | None) -> None:
    """Say in words what must not be served.

    Args:
        findings: added to.
        tolerance: absolute and relative.
        floor: lowest accuracy that the recipe lets be served.
        budget: the model it is compared with, that one's accuracy, and how much of it may be lost.
    """
    for kind, words in TOO_FAR.items():
        if count := findings.too_far[kind]:
            limit = f"more than {tolerance:g} absolute plus {tolerance:g} relative"
            findings.failures.append(f"{count:,} of {findings.sent:,} {words} by {limit}")
    for protocol, one in findings.accuracies.items():
        if one.served < one.expected and one.p_value < SIGNIFICANCE:
            lost = f"{one.expected:.2%} eager, {one.served:.2%} served (p {one.p_value:.1g})"
            findings.failures.append(f"accuracy is lost over {protocol}: {lost}")
        if one.served < floor:
            findings.failures.append(f"{one.served:.2%} over {protocol} is below the recipe's floor of {floor:.2%}")
        if budget and one.served < budget[1] - budget[2]:
            allowed = f"{budget[0]}'s {budget[1]:.2%} less the recipe's budget of {budget[2]:.2%}"
            findings.failures.append(f"{one.served:.2%} over {protocol} is below {allowed}")
