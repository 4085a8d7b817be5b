"""How verifications look on a terminal: a row for each version, and the worst answers of one that failed."""

from collections.abc import Sequence

from clients.command import text_table
from tools.verify.verdict import Example
from tools.verify.verification import Verification

COLUMNS = (
    "model",
    "verdict",
    "compared with",
    "rows",
    "sent",
    "accuracy",
    "95 % interval",
    "eager",
    "p",
    "max abs",
    "max rel",
    "tolerance",
    "alone/together",
    "batch",
)
NOTES = (
    "accuracy: the lower of the protocols'; p: McNemar's exact test, served against eager on the same rows. max abs, "
    "max rel: largest difference from the eager answers, relative to a row's largest number. alone/together: largest "
    "difference between a row's answer alone and among others. batch: rows that the server computed together on "
    "average when callers sent one each."
)


def table(verifications: Sequence[Verification]) -> str:
    """A header and a row for each version, and what the columns mean."""
    return f"{text_table([list(COLUMNS), *(row(one) for one in verifications)])}\n{NOTES}"


def report(verifications: Sequence[Verification]) -> str:
    """The table, then why versions failed."""
    return "\n".join([table(verifications), *(examples(one) for one in verifications if not one.passed)])


def row(one: Verification) -> list[str]:
    """One version's figures as people read them; the columns are COLUMNS."""
    found = one.findings
    lowest = min(found.accuracies.values(), key=lambda accuracy: accuracy.served, default=None)
    measured = ["-"] * 4
    if lowest:
        interval = f"{lowest.low:.1%} to {lowest.high:.1%}"
        measured = [f"{lowest.served:.2%}", interval, f"{lowest.expected:.2%}", f"{lowest.p_value:.2g}"]
    return [
        f"{one.model} {one.version}",
        "verified" if one.passed else "FAILED",
        one.reference,
        f"{one.rows:,}",
        f"{found.sent:,}",
        *measured,
        f"{found.max_abs:.1e}",
        f"{found.max_rel:.1e}",
        f"{one.tolerance:g}",
        f"{found.invariance:.1e}",
        "-" if found.batch is None else f"{found.batch:.1f}",
    ]


def examples(one: Verification) -> str:
    """Why a version failed, with its worst answers."""
    lines = [f"\n{one.model} version {one.version} FAILED: {failure}" for failure in one.findings.failures]
    return "\n".join([*lines, *map(example, one.findings.worst)])


def example(one: Example) -> str:
    """One answer that is too far off."""
    label = f" ({one.label})" if one.label else ""
    compared = "expected" if one.compared_with == "eager" else "alone"
    return (
        f"  row {one.row}{label} over {one.way}: {one.output} is {one.excess:,.1f} times the limit off\n"
        f"    {compared:8} {numbers(one.expected)}\n"
        f"    {'served':8} {numbers(one.served)}"
    )


def numbers(values: Sequence[object]) -> str:
    """Numbers and texts, short."""
    return " ".join(f"{one:.4f}" if isinstance(one, float) else str(one) for one in values)
