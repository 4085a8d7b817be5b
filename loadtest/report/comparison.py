"""Two runs compared: which figures are worse, and the page that lays one run over the other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from loadtest.analysis.intervals import Percentile, wilson_interval
from loadtest.report.axes import Axis, Span
from loadtest.report.charts import MS, Dot, by_percentile, dots, over_time
from loadtest.report.page import Page, Section, half

Run = dict[str, Any]  # the JSON report of a run
_SHARES = ("errors", "goodput")
_NOTE = "Worse or better: the 95 % intervals do not overlap, and the difference is larger than the tolerance."


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval; None where the run was too short for it."""

    value: float | None
    span: Span


@dataclass(frozen=True)
class Change:
    """One figure of two runs; `verdict` is better, worse, no difference or not measured."""

    figure: str
    before: Estimate
    after: Estimate
    verdict: str

    def document(self) -> dict[str, Any]:
        """As JSON."""
        values, spans = (self.before.value, self.after.value), (self.before.span, self.after.span)
        names = ("figure", "before", "after", "intervals", "verdict")
        return dict(zip(names, (self.figure, *values, spans, self.verdict), strict=True))


def changes(before: Run, after: Run, tolerance: float) -> list[Change]:
    """Compare two reports in all figures that have an interval: percentiles, and shares of errors and of goodput."""

    def percentile(run: Run, name: str) -> Estimate:
        estimate = run["intervals_ms"][name]
        return Estimate(estimate["value"], (estimate["low"], estimate["high"]))

    def share(run: Run, counted: str) -> Estimate:
        return Estimate(run[counted] / run["requests"], wilson_interval(run[counted], run["requests"]))

    names = [name for name in before["intervals_ms"] if name in after["intervals_ms"]]
    pairs = {name: (percentile(before, name), percentile(after, name)) for name in names}
    pairs["errors"] = share(before, "errors"), share(after, "errors")
    # A language model's answers must meet several limits to be good.
    limit = "slo" if "ttft_p50" in names else "goodput_limit_ms"
    if before[limit] and before[limit] == after[limit]:
        pairs["goodput"] = share(before, "good"), share(after, "good")
    return [Change(name, *pair, verdict(*pair, tolerance, name != "goodput")) for name, pair in pairs.items()]


def verdict(before: Estimate, after: Estimate, tolerance: float, more_is_worse: bool) -> str:
    """Judge a difference: better, worse, no difference or not measured."""
    if before.value is None or after.value is None:
        return "not measured"
    # The intervals overlap unless one ends below the other's beginning; an open end reaches everywhere.
    ends = ((before.span[1], after.span[0]), (after.span[1], before.span[0]))
    is_apart = any(high is not None and low is not None and high < low for high, low in ends)
    if abs(after.value - before.value) <= tolerance * before.value or not is_apart:
        return "no difference"
    return "worse" if (after.value > before.value) == more_is_worse else "better"


def table(compared: Sequence[Change]) -> list[list[str]]:
    """A header and a row for each figure."""
    rows = [[one.figure, _text(one, one.before), _text(one, one.after), one.verdict] for one in compared]
    return [["figure", "before", "after", "verdict"], *rows]


def outcome(compared: Sequence[Change]) -> str:
    """What is worse and what is better, in one line."""
    found = []
    for kind in ("worse", "better"):
        names = [f"{one.figure} ({_brief(one)})" for one in compared if one.verdict == kind]
        found += [f"{kind}: {', '.join(names)}"] if names else []
    for kind in ("no difference", "not measured"):
        count = sum(one.verdict == kind for one in compared)
        found += [f"{kind}: {count} figure{'s' * (count > 1)}"] if count else []
    return "; ".join(found).capitalize()


def page_of(described: tuple[str, str], runs: tuple[Run, Run], compared: Sequence[Change]) -> Page:
    """The comparison as a page; `described` says which run is which."""
    worse = frozenset(change.figure for change in compared if change.verdict == "worse")
    axis = Axis("", "ms", log=True)
    latencies = [
        Dot(change.figure, name, estimate.value, estimate.span)
        for change in compared
        if change.figure not in _SHARES
        for name, estimate in (("before", change.before), ("after", change.after))
    ]
    about = "latencies with 95 % intervals, before and after"
    sections = [
        Section("Figures", table=table(compared), marked=worse, notes=(_NOTE,)),
        half("Latencies, with 95 % intervals", dots(about, latencies, axis)),
        *_overlays(*runs),
    ]
    title, asked = f"{runs[1]['model']}, before and after", "before: {}\nafter: {}".format(*described)
    return Page(title, asked, outcome(compared), sections, "worse" if worse else "passed")


def _axis(change: Change) -> Axis:
    return Axis("", spec=".2%") if change.figure in _SHARES else MS


def _text(change: Change, estimate: Estimate) -> str:
    if estimate.value is None:
        return "-"
    return f"{_axis(change).text(estimate.value)} ({_axis(change).span(estimate.span)})"


def _brief(change: Change) -> str:
    return _axis(change).span((change.before.value, change.after.value))


def _overlays(before: Run, after: Run) -> Iterator[Section]:
    """One run over the other: by percentile, and over time."""
    named = {"before": before, "after": after}
    for kind, title in _kinds(before).items():
        prefix = f"{kind}_" if kind else ""
        curves = {name: run["curve"][kind] if kind else run["curve"] for name, run in named.items()}
        known = {
            name: {
                level.removeprefix(prefix): Percentile(**estimate)
                for level, estimate in run["intervals_ms"].items()
                if level.rpartition("_")[0] == kind
            }
            for name, run in named.items()
        }
        yield half(f"{title}, by percentile", by_percentile(f"{title} by percentile", curves, known))
        if f"{prefix}p99_ms" in before["course"][0]:
            lines = {name: _line(run, f"{prefix}p99_ms") for name, run in named.items()}
            yield half(f"{title}, p99 by time", over_time(f"{title}, p99 over time", lines, MS))


def _kinds(run: Run) -> dict[str, str]:
    """The kinds of latency that have a curve, with their titles."""
    if isinstance(run["curve"], list):
        return {"": "Latency"}
    return {"ttft": "Time to the first token", "itl": "Time between tokens"}


def _line(run: Run, name: str) -> list[tuple[float, float | None]]:
    middle = run["duration_s"] / len(run["course"]) / 2
    return [(stretch["from_s"] + middle, stretch[name]) for stretch in run["course"]]
