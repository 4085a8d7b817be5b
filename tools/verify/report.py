"""What verifications showed: a table for a terminal, and a page."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from clients.command import text_table
from loadtest.report.axes import Axis
from loadtest.report.charts import Dot, dots
from loadtest.report.page import Page, Section, half, publish
from tools.verify.verification import Verification

_NOTES = (
    "accuracy: the lower of the protocols'; p: McNemar's exact test, served against eager on the same rows. max abs, "
    "max rel: largest difference from the eager answers, relative to a row's largest number. alone/together: largest "
    "difference between a row's answer alone and among others. batch: average rows that the server computed together "
    "when callers sent one each."
)


def text(verifications: Sequence[Verification]) -> str:
    """A row for each version, what the columns mean, and for versions that failed why, with the worst answers."""
    failures = list[str]()
    for verification in verifications:
        name = f"{verification.model} version {verification.version}"
        failures += [f"\n{name} FAILED: {failure}" for failure in verification.findings.failures]
        failures += map(str, verification.findings.worst)
    return "\n".join([text_table(_table(verifications)), _NOTES, *failures])


def write(verifications: Sequence[Verification], folder: Path) -> Path:
    """Write verify.json, .md and .html; returns the path of the last."""
    document = {verification.model: verification.document() for verification in verifications}
    return publish(page_of(verifications), document, folder, "verify")


def page_of(verifications: Sequence[Verification]) -> Page:
    """The verifications as a page."""
    failed = [one for one in verifications if not one.passed]
    first, names = verifications[0], ", ".join(one.model for one in verifications)
    sizes, callers = (", ".join(map(str, values)) for values in (first.sizes, first.concurrencies))
    asked = f"Does Triton answer as the networks do? {names}; in batches of {sizes} rows; {callers} requests at once"
    sent = sum(one.findings.sent for one in verifications)
    found = f"All {len(verifications)} versions answer as their networks, in {sent:,} rows."
    if failed:
        wrong = ", ".join(f"{one.model} ({one.findings.failures[0]})" for one in failed)
        found = f"{len(failed)} of {len(verifications)} versions must not be served: {wrong}."
    sections = [
        *_charts(verifications),
        Section(
            "Versions", table=_table(verifications), marked=frozenset(_name(one) for one in failed), notes=(_NOTES,)
        ),
        *(_failure(one) for one in failed),
    ]
    notes = [f"{one.model}: {note}" for one in verifications for note in one.notes]
    versions = {"Triton": first.server.get("version")}
    return Page("Verification", asked, found, sections, "failed" if failed else "verified", notes, versions)


def _name(verification: Verification) -> str:
    return f"{verification.model} {verification.version}"


def _failure(verification: Verification) -> Section:
    findings = verification.findings
    return Section(f"Why {_name(verification)} failed", notes=[*findings.failures, *map(str, findings.worst)])


def _charts(verifications: Sequence[Verification]) -> Iterator[Section]:
    """Accuracy beside the network's, and the largest differences beside the tolerance."""
    accuracies, differences = list[Dot](), list[Dot]()
    for one in verifications:
        for protocol, accuracy in one.findings.accuracies.items():
            accuracies.append(Dot(_name(one), f"over {protocol}", accuracy.served, (accuracy.low, accuracy.high)))
        if one.findings.accuracies:
            expected = next(iter(one.findings.accuracies.values())).expected
            accuracies.append(Dot(_name(one), "eager", expected))
        for name, value in (("from eager", one.findings.max_rel), ("alone or together", one.findings.invariance)):
            differences.append(Dot(_name(one), name, value / one.tolerance or None))
    if accuracies:
        about = "accuracy of each version over each protocol, with 95 % intervals, beside the eager network's"
        yield half("Accuracy, with 95 % intervals", dots(about, accuracies, Axis("", zero=False, spec=".2%")))
    about = "the largest difference of each version, as a share of its tolerance"
    axis = Axis("of the tolerance", log=True)
    yield half("Largest differences", dots(about, differences, axis, (1.0, "tolerance")))


def _table(verifications: Sequence[Verification]) -> list[list[str]]:
    rows = list[dict[str, str]]()
    for verification in verifications:
        findings = verification.findings
        lowest = min(findings.accuracies.values(), key=lambda accuracy: accuracy.served, default=None)
        row = {
            "model": _name(verification),
            "verdict": "verified" if verification.passed else "FAILED",
            "compared with": verification.reference,
            "rows": f"{verification.rows:,}",
            "sent": f"{findings.sent:,}",
            "accuracy": f"{lowest.served:.2%}" if lowest else "-",
            "95 % interval": f"{lowest.low:.1%} to {lowest.high:.1%}" if lowest else "-",
            "eager": f"{lowest.expected:.2%}" if lowest else "-",
            "p": f"{lowest.p_value:.2g}" if lowest else "-",
            "max abs": f"{findings.max_abs:.1e}",
            "max rel": f"{findings.max_rel:.1e}",
            "tolerance": f"{verification.tolerance:g}",
            "alone/together": f"{findings.invariance:.1e}",
            "batch": "-" if findings.batch is None else f"{findings.batch:.1f}",
        }
        rows.append(row)
    return [[*rows[0]], *([*row.values()] for row in rows)]
