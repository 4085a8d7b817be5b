"""Numbers and sentences that every report shares."""

from collections.abc import Mapping, Sequence


def number(value: float | None) -> str:
    """A figure with about three significant digits; "-" where there is none."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" if value < 100 else f"{value:.1f}"


def interval(low: float | None, high: float | None) -> str:
    """An interval; a question mark is an end that the run was too short to determine."""
    return " to ".join("?" if end is None else number(end) for end in (low, high))


def outcome_notes(slo: Sequence[str], missed: Sequence[str], passed: bool, errors: Mapping[str, int]) -> list[str]:
    """Which objectives were met or missed, and the errors by kind."""
    notes = [f"SLO missed: {text}" for text in missed]
    if slo and passed:
        notes.append(f"SLO met: {', '.join(slo)}")
    return notes + [f"{count:,} errors: {kind}" for kind, count in errors.items()]
