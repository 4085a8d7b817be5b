"""A trial, one load on the server, and the search for the highest rate that one choice of settings sustains."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from loadtest import slo
from loadtest.analysis.peak_search import Belief, Search
from loadtest.analysis.result import RunResult

Document = dict[str, Any]  # JSON
_BACK_OFF = 0.9  # after a trial in which the generator was the bottleneck


@dataclass(frozen=True)
class Trial:
    """The outcome of an open loop: what the client saw, and what the server counted."""

    rate: float  # arrivals per second
    valid: bool  # whether the generator kept up; if not, the trial says nothing about the server
    passed: bool
    steady: bool  # whether the server kept up with the arrivals
    latency_ms: Mapping[str, float | None]  # by percentile, "p99" say; None where too few requests were answered
    mean_batch: float | None = None
    cpu_us: float | None = None  # processor time of the server per request
    parts: tuple["Trial", ...] = ()  # the trial of each model, where several shared the server

    @property
    def is_sustained(self) -> bool:
        """Whether the objectives were met and the server kept up."""
        return self.valid and self.passed and self.steady

    @property
    def verdict(self) -> str:
        """The outcome in a few words."""
        return ("sustained" if self.is_sustained else "not sustained") if self.valid else "generator too slow"


def trial_of(result: RunResult) -> Trial:
    """What a load test says about the rate that it was made at."""
    server, percentiles = result.server, result.figures.percentiles
    return Trial(
        rate=result.load.rate or 0.0,
        valid=result.is_valid,
        passed=result.has_passed,
        steady=bool(result.steady),
        latency_ms={name: each.value if result.is_valid else None for name, each in percentiles.items()},
        mean_batch=server.counted.mean_batch,
        cpu_us=None if server.cpu_s is None else 1e6 * server.cpu_s / max(1, server.counted.requests),
    )


def join_trials(rate: float, parts: Sequence[Trial]) -> Trial:
    """Combine simultaneous trials of several models: total rate, worst latency, verdicts that hold for all of them."""

    def worst(name: str) -> float | None:
        known = [latency for part in parts if (latency := part.latency_ms[name]) is not None]
        return max(known) if len(known) == len(parts) else None

    return Trial(
        rate,
        valid=all(part.valid for part in parts),
        passed=all(part.passed for part in parts),
        steady=all(part.steady for part in parts),
        latency_ms={name: worst(name) for name in slo.PERCENTILES},
        parts=tuple(parts),
    )


@dataclass
class PeakSearch:
    """A search and all its trials, including those in which the generator was the bottleneck."""

    start: tuple[float, float]  # first estimate in requests per second, right within a factor two times in three
    state: Search
    trials: list[Trial] = field(default_factory=list)

    def peak(self) -> float:
        """The most likely peak, in requests per second."""
        return self.state.belief.quantile(0.5)

    def interval(self) -> tuple[float, float]:
        """The 90 % interval of the peak."""
        return self.state.belief.interval()

    def step(self, measure: Callable[[float, int], Trial]) -> Trial:
        """Run the next trial at the most likely peak, or lower while the generator is the bottleneck.

        `measure` takes a rate and the number of the trial.
        """
        trial = measure(self.peak() * _BACK_OFF**self.state.invalid, len(self.trials))
        self.note(trial)
        return trial

    def note(self, trial: Trial) -> None:
        """Learn from a trial."""
        self.trials.append(trial)
        self.state.note(trial.rate, trial.is_sustained if trial.valid else None)

    def document(self) -> Document:
        """Return the search as JSON."""
        low, high = self.interval()
        peaks = {"peak_rps": round(self.peak(), 1), "low_rps": round(low, 1), "high_rps": round(high, 1)}
        return {"start": self.start, **peaks, "trials": list(map(asdict, self.trials))}


def search_around(rate: float, factor: float) -> PeakSearch:
    """Begin a search at a rate that is right within a factor with a probability of two thirds."""
    rates = np.geomspace(rate / factor**4, rate * factor**4, 2000)
    weights = np.exp(-0.5 * (np.log(rates / rate) / np.log(factor)) ** 2)
    return PeakSearch((rate, factor), Search(Belief(rates, weights / weights.sum())))


def search_from(document: Document) -> PeakSearch:
    """Read a search from JSON; the belief is computed from its trials."""
    search = search_around(*document["start"])
    for trial in document["trials"]:
        search.note(_trial_from(trial))
    return search


def _trial_from(document: Document) -> Trial:
    return Trial(**document | {"parts": tuple(map(_trial_from, document["parts"]))})
