"""The outcome of one direct run (open or closed loop) as a plain document."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from loadtest.arrivals import Times
from loadtest.audit import Audit
from loadtest.intervals import Percentile, percentile
from loadtest.latencies import curve, histogram_of
from loadtest.records import ANSWERED, Records
from loadtest.slo import PERCENTILES, Objective, missed, patience_ms
from loadtest.warmup import WarmUp, warm_up

Document = dict[str, Any]
POINTS = 60  # of the course over time, at the most
SHORTEST_S = 0.5
# What an invalid run may still say.
KEPT = ("requests", "errors", "error_kinds", "offered_rps")


@dataclass(frozen=True)
class Window:
    """The part of a run that counts: from `start` to `end`, in seconds from the run's start."""

    start: float
    end: float
    steady: bool

    @property
    def seconds(self) -> float:
        """Its length."""
        return max(1e-9, self.end - self.start)


def window(records: Records, duration: float, cut: float | None) -> Window:
    """What is left without the warm-up.

    Args:
        records: of the whole run.
        duration: seconds for which requests were due.
        cut: seconds to leave out; None lets the latencies decide.
    """
    timed = records.timed()
    judged = warm_up(timed.latency) if len(timed) else WarmUp(0, True)
    if cut is None:
        cut = float(timed.due[judged.requests]) if judged.requests else 0.0
    return Window(cut, duration, judged.steady)


def figures(records: Records, part: Window, objectives: list[Objective]) -> Document:
    """Counts, rates and latencies within a window; latencies in milliseconds, rates per second."""
    chosen = records.where(records.due >= part.start)
    timed, answered = chosen.timed(), chosen.where(chosen.of(ANSWERED))
    ends = records.due + records.latency
    in_time = records.of(ANSWERED) & (ends >= part.start) & (ends < part.end)
    errors = len(chosen) - len(answered)
    patience = patience_ms(objectives)
    good = int((answered.latency * 1000 < (patience or np.inf)).sum())
    return {
        "requests": len(chosen),
        "errors": errors,
        "error_share": errors / len(chosen) if len(chosen) else None,
        "error_kinds": chosen.failures(),
        "answered_in_time": int(in_time.sum()),
        "offered_rps": round(len(chosen) / part.seconds, 1),
        "rps": round(int(in_time.sum()) / part.seconds, 1),
        "good": good,
        "goodput_rps": round(good / part.seconds, 1),
        "goodput_share": round(good / len(chosen), 4) if len(chosen) else None,
        "goodput_limit_ms": patience,
        **latencies(timed.latency * 1000),
        "curve": curve(histogram_of(timed.latency)),
        "histogram": histogram_of(timed.latency).encode().decode(),
    }


def keeps_up(document: Document) -> bool:
    """Whether about as many requests were answered as came; ten may be under way at the end of a short run."""
    missing = document["requests"] - document["errors"] - document["answered_in_time"]
    return bool(missing <= max(10, 0.05 * document["requests"]))


def latencies(values_ms: Times) -> Document:
    """Mean, maximum and percentiles, each with its interval; None where there are too few requests."""
    found = {name: percentile(values_ms, share) for name, share in PERCENTILES.items()}
    some = len(values_ms) > 0
    return {
        "mean_ms": round(float(values_ms.mean()), 3) if some else None,
        "max_ms": round(float(values_ms.max()), 3) if some else None,
        **{f"{name}_ms": rounded(one) for name, one in found.items()},
        "intervals_ms": {name: one.document() for name, one in found.items()},
    }


def rounded(one: Percentile) -> float | None:
    """A percentile to the microsecond."""
    return None if one.value is None else round(one.value, 3)


def course(records: Records, duration: float) -> list[Document]:
    """What happened over time, by the moment at which requests were due; latencies in milliseconds."""
    edges = np.linspace(0, duration, max(1, min(POINTS, int(duration / SHORTEST_S))) + 1)
    found = []
    for start, end in zip(edges, edges[1:], strict=False):
        part = records.where((records.due >= start) & (records.due < end))
        answered = part.timed().latency * 1000
        levels = np.percentile(answered, [50, 99, 100]) if len(answered) else [None] * 3
        found.append(
            {
                "from_s": round(float(start), 3),
                "rps": round(len(part) / (end - start), 1),
                "errors": len(part) - int(part.of(ANSWERED).sum()),
                **dict(zip(("p50_ms", "p99_ms", "max_ms"), map(short, levels), strict=True)),
            }
        )
    return found


def short(value: float | None) -> float | None:
    """A figure for a plot."""
    return None if value is None else round(float(value), 3)


def verdict(document: Document, audit: Audit, objectives: list[Objective]) -> Document:
    """What the run proves; where the generator was the bottleneck, nothing, and the server's figures are left out."""
    withheld = [name for name in document if audit.problems and name not in KEPT]
    figures = {**document, **dict.fromkeys(withheld)}
    failures = missed(objectives, figures) if not audit.problems else []
    return {
        **figures,
        "valid": not audit.problems,
        "invalid_because": list(audit.problems),
        "slo": [one.text for one in objectives],
        "slo_missed": failures,
        "passed": not (audit.problems or failures) and document["requests"] > document["errors"],
    }
