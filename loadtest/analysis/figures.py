"""Counts, rates and latencies of a run, without its warm-up."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from loadtest.analysis.histograms import curve, histogram_of
from loadtest.analysis.intervals import Percentile, percentile
from loadtest.analysis.warmup import WarmUp, warm_up
from loadtest.records import ANSWERED, Records
from loadtest.slo import PERCENTILES, Objective, goodput_limit_ms

_MOST_STRETCHES = 60
_SHORTEST_STRETCH_S = 0.5


@dataclass(frozen=True)
class Window:
    """The part of a run that counts: from `start` to `end`, in seconds from the run's start."""

    start: float
    end: float
    steady: bool


@dataclass(frozen=True)
class Stretch:
    """A stretch of a run, by due times; latencies in milliseconds, None where nothing was answered."""

    from_s: float
    rps: float
    errors: int
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None


@dataclass(frozen=True)
class Figures:
    """What the client saw within a window; rates per second, latencies in milliseconds.

    Attributes:
        answered_in_time: answers that arrived within the window.
        good: answers within `goodput_limit_ms`, or all where there is no limit.
        percentiles: by name, for example "p99".
        curve: (percentile, milliseconds).
        histogram: encoded HDR histogram of the latencies in microseconds.
        course: the whole run over time, warm-up included.
    """

    requests: int
    errors: int
    error_share: float | None
    error_kinds: dict[str, int]
    answered_in_time: int
    offered_rps: float
    rps: float
    good: int
    goodput_rps: float
    goodput_share: float | None
    goodput_limit_ms: float | None
    mean_ms: float | None
    max_ms: float | None
    percentiles: dict[str, Percentile]
    curve: list[tuple[float, float]]
    histogram: str
    course: list[Stretch]

    def values(self) -> dict[str, float | None]:
        """The figures that objectives limit, by the names that `loadtest.slo` uses."""
        percentiles = {f"{name}_ms": estimate.value for name, estimate in self.percentiles.items()}
        return {**percentiles, "max_ms": self.max_ms, "rps": self.rps, "error_share": self.error_share}

    def keeps_up(self) -> bool:
        """Whether about as many requests were answered as arrived; ten may be under way at the end of a short run."""
        missing = self.requests - self.errors - self.answered_in_time
        return missing <= max(10, 0.05 * self.requests)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        document = asdict(self)
        return {"intervals_ms": document.pop("percentiles"), **document, **self.values()}


def window(records: Records, duration: float, cut: float | None) -> Window:
    """Leave out the warm-up.

    Args:
        records: of the whole run.
        duration: seconds for which requests were due.
        cut: seconds to leave out; None lets the latencies decide.
    """
    timed = records.timed()
    detected = warm_up(timed.latency) if len(timed) else WarmUp(0, True)
    if cut is None:
        cut = float(timed.due[detected.requests]) if detected.requests else 0.0
    return Window(cut, duration, detected.steady)


def figures(records: Records, part: Window, objectives: Sequence[Objective]) -> Figures:
    """Summarize the requests that were due within a window."""
    due = records.where(records.due >= part.start)
    timed, answered = due.timed(), due.where(due.of(ANSWERED))
    ends = records.due + records.latency
    in_time = int((records.of(ANSWERED) & (ends >= part.start) & (ends < part.end)).sum())
    count, errors = len(due), len(due) - len(answered)
    limit, seconds = goodput_limit_ms(objectives), max(1e-9, part.end - part.start)
    good = int((answered.latency * 1000 < (limit or np.inf)).sum())
    latencies, histogram = timed.latency * 1000, histogram_of(timed.latency)
    return Figures(
        requests=count,
        errors=errors,
        error_share=errors / count if count else None,
        error_kinds=due.failures(),
        answered_in_time=in_time,
        offered_rps=round(count / seconds, 1),
        rps=round(in_time / seconds, 1),
        good=good,
        goodput_rps=round(good / seconds, 1),
        goodput_share=round(good / count, 4) if count else None,
        goodput_limit_ms=limit,
        mean_ms=round(float(latencies.mean()), 3) if len(timed) else None,
        max_ms=round(float(latencies.max()), 3) if len(timed) else None,
        percentiles={name: percentile(latencies, share) for name, share in PERCENTILES.items()},
        curve=curve(histogram),
        histogram=histogram.encode().decode(),
        course=_course(records, part.end),
    )


def _course(records: Records, duration: float) -> list[Stretch]:
    count = max(1, min(_MOST_STRETCHES, int(duration / _SHORTEST_STRETCH_S)))
    edges = np.linspace(0, duration, count + 1)
    return [_stretch(records, start, end) for start, end in zip(edges[:-1], edges[1:], strict=True)]


def _stretch(records: Records, start: float, end: float) -> Stretch:
    part = records.where((records.due >= start) & (records.due < end))
    latencies = part.timed().latency * 1000
    levels = np.percentile(latencies, [50, 99, 100]).round(3).tolist() if len(latencies) else [None] * 3
    errors = len(part) - int(part.of(ANSWERED).sum())
    return Stretch(round(float(start), 3), round(len(part) / (end - start), 1), errors, *levels)
