"""Decide whether a run is worse than an earlier one, with an exit code for CI.

A figure is worse when the 95 % intervals of the two runs do not overlap and the difference is larger than the
tolerance, which stands for what no single run can know (another day, another neighbour on the host). The exit code is 0
when nothing is worse, 1 when something is, 2 when the runs cannot be compared. The last line of stdout is one JSON
document.

    python -m loadtest.diff build/loadtest/main.json build/loadtest/mnist_mlp-http-open.json --tolerance 0.1
"""

import json
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from clients.command import command, command_parser, print_json, text_table
from clients.errors import InvalidInput
from loadtest.analysis.intervals import wilson_interval
from loadtest.report.page import interval, number

# What two runs must have in common for a difference to be the server's.
_SAME = ("model", "protocol", "loop", "arrivals", "rate", "concurrency", "client_batch", "payload")


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval; None where the run was too short for it."""

    value: float | None
    span: tuple[float | None, float | None]  # the ends of the interval; None is an open end

    def __str__(self) -> str:
        return f"{number(self.value)} ({interval(*self.span)})"


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


def changes(before: dict[str, Any], after: dict[str, Any], tolerance: float) -> list[Change]:
    """Compare two reports in all figures that have an interval: percentiles, and shares of errors and of goodput."""

    def percentile(run: dict[str, Any], name: str) -> Estimate:
        estimate = run["intervals_ms"][name]
        return Estimate(estimate["value"], (estimate["low"], estimate["high"]))

    def share(run: dict[str, Any], counted: str) -> Estimate:
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


def read(path: Path) -> dict[str, Any]:
    """Read the report of a run; raises InvalidInput if it is none, or the run was not valid."""
    expected = "expected the JSON report of `python -m loadtest.run MODEL`"
    try:
        document: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path}: {error}; {expected}") from error
    if not isinstance(document, dict) or "intervals_ms" not in document:
        raise InvalidInput(f"{path}: {expected}, which this is not")
    if not document["valid"]:
        raise InvalidInput(f"{path}: this run is not valid: {'; '.join(document['invalid_because'])}; repeat it")
    return document


def check_same_load(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Refuse runs of different loads: raises InvalidInput, which names the first difference."""
    for name in _SAME:
        if before[name] != after[name]:
            raise InvalidInput(
                f"different loads: {name} was {before[name]} and is {after[name]}; repeat one, or give --any-load"
            )


def _described(path: Path, run: dict[str, Any]) -> str:
    """Which file it is, when it was written, and of which run."""
    written = datetime.fromtimestamp(path.stat().st_mtime).isoformat(" ", "seconds")
    loads = {"rate": "{:g}/s", "concurrency": "{} callers", "arrivals": "{} arrivals"}
    load = ", ".join(form.format(run[name]) for name, form in loads.items() if run[name])
    return f"{path} of {written}: {run['model']}, {run['protocol']} {run['url']}, {load}, {run['duration_s']:g} s"


@command()
def main() -> int:
    """Compare two reports."""
    parser = command_parser("loadtest.diff", __doc__)
    parser.add_argument("before", type=Path, metavar="BEFORE.json")
    parser.add_argument("after", type=Path, metavar="AFTER.json")
    text = "relative difference to ignore (default: %(default)s)"
    parser.add_argument("--tolerance", type=float, default=0.05, help=text)
    parser.add_argument("--any-load", action="store_true", help="compare runs of different loads as well")
    arguments = parser.parse_args()
    before, after = read(arguments.before), read(arguments.after)
    if not arguments.any_load:
        check_same_load(before, after)
    compared = changes(before, after, arguments.tolerance)
    worse = [change.figure for change in compared if change.verdict == "worse"]
    print(f"before: {_described(arguments.before, before)}\nafter:  {_described(arguments.after, after)}")
    rows = [[change.figure, str(change.before), str(change.after), change.verdict] for change in compared]
    print(text_table([["figure", "before", "after", "verdict"], *rows]))
    files = {"before": str(arguments.before), "after": str(arguments.after)}
    print_json({**files, "worse": worse, "changes": [change.document() for change in compared]})
    return int(bool(worse))


if __name__ == "__main__":
    sys.exit(main())
