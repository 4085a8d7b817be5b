"""Is a run worse than an earlier one? `python -m loadtest.diff BEFORE.json AFTER.json`, with an exit code for CI.

A figure is worse when both runs' 95 % intervals say so: they do not overlap, and the difference is larger than the
tolerance, which stands for what no interval of a single run can know (another day, another neighbour on the host). The
exit code is 0 when nothing is worse, 1 when something is, 2 when the runs cannot be compared. The last line of stdout
is one JSON document.

    python -m loadtest.diff build/loadtest/main.json build/loadtest/mnist_mlp-http-open.json --tolerance 0.1
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from clients.errors import InvalidInput
from loadtest.intervals import share_interval
from loadtest.measurement import Document
from loadtest.report.closed_loop import number
from loadtest.summary import table

# What two runs must have in common for a difference to say anything about the server.
SAME = ("model", "protocol", "loop", "arrivals", "rate", "concurrency", "client_batch", "payload")


@dataclass(frozen=True)
class Change:
    """One figure of two runs: value and interval of each, and what they say together.

    The verdict is better, worse, no difference or not measured.
    """

    figure: str
    before: float | None
    after: float | None
    intervals: tuple[tuple[float | None, float | None], tuple[float | None, float | None]]
    verdict: str


def changes(before: Document, after: Document, tolerance: float) -> list[Change]:
    """All figures that have an interval: latency percentiles in milliseconds, shares of failed and of good answers."""
    found = [
        latency(name, before["intervals_ms"][name], after["intervals_ms"][name], tolerance)
        for name in before["intervals_ms"]
        if name in after["intervals_ms"]
    ]
    found.append(share("errors", "errors", before, after, tolerance, more_is_worse=True))
    if before["goodput_limit_ms"] and before["goodput_limit_ms"] == after["goodput_limit_ms"]:
        found.append(share("goodput", "good", before, after, tolerance, more_is_worse=False))
    return found


def latency(name: str, before: Document, after: Document, tolerance: float) -> Change:
    """A percentile of two runs."""
    spans = ((before["low"], before["high"]), (after["low"], after["high"]))
    values = (before["value"], after["value"])
    return Change(name, *values, spans, verdict(values, spans, tolerance, more_is_worse=True))


def share(
    figure: str, counted: str, before: Document, after: Document, tolerance: float, more_is_worse: bool
) -> Change:
    """A share of all requests, with the interval of a binomial proportion."""
    low, high = (share_interval(one[counted], one["requests"]) for one in (before, after))
    values = (before[counted] / before["requests"], after[counted] / after["requests"])
    return Change(figure, *values, (low, high), verdict(values, (low, high), tolerance, more_is_worse))


def verdict(
    values: tuple[float | None, float | None],
    spans: tuple[tuple[float | None, float | None], tuple[float | None, float | None]],
    tolerance: float,
    more_is_worse: bool,
) -> str:
    """What two values with their intervals say."""
    before, after = values
    if before is None or after is None:
        return "not measured"
    if abs(after - before) <= tolerance * before or overlap(*spans):
        return "no difference"
    return "worse" if (after > before) == more_is_worse else "better"


def overlap(one: tuple[float | None, float | None], other: tuple[float | None, float | None]) -> bool:
    """Whether two intervals have something in common; an open end reaches everywhere."""
    return not any(
        high is not None and low is not None and high < low for high, low in ((one[1], other[0]), (other[1], one[0]))
    )


def read(path: Path) -> Document:
    """A direct run's document.

    Raises:
        InvalidInput: it is none, or the run was not valid.
    """
    try:
        document: Document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path}: {error}; expected the JSON report of `python -m loadtest.run MODEL`") from error
    if not isinstance(document, dict) or "intervals_ms" not in document:
        raise InvalidInput(f"{path}: expected the JSON report of `python -m loadtest.run MODEL`, which this is not")
    if not document["valid"]:
        raise InvalidInput(f"{path}: this run is not valid: {'; '.join(document['invalid_because'])}; repeat it")
    return document


def check_same(before: Document, after: Document) -> None:
    """Refuse runs of different loads.

    Raises:
        InvalidInput: names the first difference.
    """
    for name in SAME:
        if before[name] != after[name]:
            raise InvalidInput(
                f"different loads: {name} was {before[name]} and is {after[name]}; repeat one, or give --any-load"
            )


def text(found: list[Change]) -> str:
    """A table for people."""
    rows = [["figure", "before", "after", "verdict"]]
    for one in found:
        (low, high), (new_low, new_high) = one.intervals
        before = f"{number(one.before)} ({span(low)} to {span(high)})"
        rows.append([one.figure, before, f"{number(one.after)} ({span(new_low)} to {span(new_high)})", one.verdict])
    return "\n".join(table(rows))


def span(end: float | None) -> str:
    """An end of an interval; a question mark is one that the run was too short to tell."""
    return "?" if end is None else number(end)


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.diff", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("before", type=Path, metavar="BEFORE.json")
    parser.add_argument("after", type=Path, metavar="AFTER.json")
    parser.add_argument(
        "--tolerance", type=float, default=0.05, help="relative difference that never counts (default: 0.05)"
    )
    parser.add_argument("--any-load", action="store_true", help="compare runs of different loads as well")
    return parser


def main() -> int:
    """Entry point."""
    arguments = parser().parse_args()
    try:
        before, after = read(arguments.before), read(arguments.after)
        if not arguments.any_load:
            check_same(before, after)
    except InvalidInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    found = changes(before, after, arguments.tolerance)
    worse = [one.figure for one in found if one.verdict == "worse"]
    print(text(found))
    print(json.dumps({"worse": worse, "changes": [asdict(one) for one in found]}, separators=(",", ":")))
    return int(bool(worse))


if __name__ == "__main__":
    sys.exit(main())
