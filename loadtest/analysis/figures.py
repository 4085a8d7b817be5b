"""Counts, rates and latencies of a run, without its warm-up."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from loadtest.analysis.intervals import Percentile, curve, percentile
from loadtest.records import ANSWERED, Records
from loadtest.slo import PERCENTILES, Objective, goodput_limit_ms

_MOST_STRETCHES = 60
_SHORTEST_STRETCH_S = 0.5


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
    """What the client saw after the warm-up; rates per second, latencies in milliseconds."""

    requests: int
    errors: int
    error_share: float | None
    error_kinds: dict[str, int]
    answered_in_time: int  # arrived after the warm-up and before the end of the run
    offered_rps: float
    rps: float
    good: int  # answers within `goodput_limit_ms`, or all where there is no limit
    goodput_rps: float
    goodput_share: float | None
    goodput_limit_ms: float | None
    mean_ms: float | None
    max_ms: float | None
    percentiles: dict[str, Percentile]  # by name, for example "p99"
    curve: list[tuple[float, float]]  # (percentile, milliseconds)
    course: list[Stretch]  # the whole run over time, warm-up included

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


def figures(records: Records, start: float, end: float, objectives: Sequence[Objective]) -> Figures:
    """Summarize the requests that were due from `start`, the end of the warm-up, to `end` of the run, in seconds."""
    due = records.where(records.due >= start)
    timed, answered = due.timed(), due.where(due.of(ANSWERED))
    ends = records.due + records.latency
    in_time = int((records.of(ANSWERED) & (ends >= start) & (ends < end)).sum())
    count, errors = len(due), len(due) - len(answered)
    limit, seconds = goodput_limit_ms(objectives), max(1e-9, end - start)
    good = int((answered.latency * 1000 < (limit or np.inf)).sum())
    latencies = timed.latency * 1000
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
        curve=curve(latencies),
        course=_course(records, end),
    )


def stretches(duration: float, shortest_s: float) -> Iterable[tuple[float, float]]:
    """Cut a run into equal stretches: their beginnings and ends in seconds."""
    count = max(1, min(_MOST_STRETCHES, int(duration / shortest_s)))
    return pairwise(np.linspace(0, duration, count + 1).tolist())


def _course(records: Records, duration: float) -> list[Stretch]:
    course = []
    for start, end in stretches(duration, _SHORTEST_STRETCH_S):
        part = records.where((records.due >= start) & (records.due < end))
        latencies = part.timed().latency * 1000
        levels = np.percentile(latencies, [50, 99, 100]).round(3).tolist() if len(latencies) else [None] * 3
        errors = len(part) - int(part.of(ANSWERED).sum())
        course.append(Stretch(round(start, 3), round(len(part) / (end - start), 1), errors, *levels))
    return course
