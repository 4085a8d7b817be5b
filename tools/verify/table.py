"""Verifications on a terminal: a row for each version, and the worst answers of one that failed."""

from collections.abc import Sequence

from clients.command import text_table
from tools.verify.verification import Example, Verification

_NOTES = (
    "accuracy: the lower of the protocols'; p: McNemar's exact test, served against eager on the same rows. max abs, "
    "max rel: largest difference from the eager answers, relative to a row's largest number. alone/together: largest "
    "difference between a row's answer alone and among others. batch: average rows that the server computed together "
    "when callers sent one each."
)


def report(verifications: Sequence[Verification]) -> str:
    """A row for each version, what the columns mean, and why versions failed."""
    rows = [_row(verification) for verification in verifications]
    table = text_table([[*rows[0]], *([*row.values()] for row in rows)])
    failures = [_failures(verification) for verification in verifications if not verification.passed]
    return "\n".join([table, _NOTES, *failures])


def _row(verification: Verification) -> dict[str, str]:
    findings = verification.findings
    lowest = min(findings.accuracies.values(), key=lambda accuracy: accuracy.served, default=None)
    return {
        "model": f"{verification.model} {verification.version}",
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


def _failures(verification: Verification) -> str:
    name, findings = f"{verification.model} version {verification.version}", verification.findings
    return "\n".join([*(f"\n{name} FAILED: {failure}" for failure in findings.failures), *map(_text, findings.worst)])


def _text(example: Example) -> str:
    label = f" ({example.label})" if example.label else ""
    compared = "expected" if example.compared_with == "eager" else "alone"
    place = f"row {example.row}{label} over {example.way}"
    return (
        f"  {place}: {example.output} is {example.excess:,.1f} times the limit off\n"
        f"    {compared:8} {_numbers(example.expected)}\n"
        f"    {'served':8} {_numbers(example.served)}"
    )


def _numbers(values: Sequence[object]) -> str:
    return " ".join(f"{value:.4f}" if isinstance(value, float) else str(value) for value in values)
