"""A trial, one load on the server, and the search for the highest rate that one choice of settings sustains."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from loadtest import slo
from loadtest.analysis.peak_search import Belief, Search

Document = dict[str, Any]  # JSON
_BACK_OFF = 0.9  # after a trial in which the generator was the bottleneck


@dataclass(frozen=True)
class ServerSide:
    """What the server counted during a trial: means, executions by batch size, processor seconds, requests."""

    mean_batch: float | None = None
    queue_us: float | None = None
    batches: Document | None = None
    busy_instances: float | None = None
    cpu_s: float | None = None
    requests: int = 0


@dataclass(frozen=True)
class Trial:
    """The outcome of one load: what the client saw, and what the server counted."""

    rate: float | None  # arrivals per second of an open loop
    valid: bool  # whether the generator kept up; if not, the trial says nothing about the server
    passed: bool
    steady: bool  # whether the server kept up with the arrivals
    latency_ms: Mapping[str, float | None]  # by percentile, "p99" say; None where too few requests were answered
    server: ServerSide = ServerSide()
    concurrency: int | None = None  # callers of a closed loop
    requests: int = 0
    errors: int = 0
    mean_ms: float | None = None
    rps: float | None = None
    duration_s: float = 0.0
    server_rps: float | None = None
    parts: tuple["Trial", ...] = ()  # the trial of each model, where several shared the server

    @property
    def is_sustained(self) -> bool:
        """Whether the objectives were met and the server kept up."""
        return self.valid and self.passed and self.steady

    @property
    def verdict(self) -> str:
        """The outcome in a few words."""
        return ("sustained" if self.is_sustained else "not sustained") if self.valid else "generator too slow"

    def document(self) -> Document:
        """Return the trial as JSON."""
        document = asdict(self)
        latencies = {f"{name}_ms": value for name, value in document.pop("latency_ms").items()}
        del document["parts"]
        return document | latencies | ({"parts": [part.document() for part in self.parts]} if self.parts else {})


def trial_from(document: Document) -> Trial:
    """Read a trial from the JSON of a record or of a load test."""
    if "parts" in document:
        return join_trials(document["rate"], [trial_from(part) for part in document["parts"]])

    def pick(kind: type[Trial] | type[ServerSide], source: Document) -> Document:
        return {field.name: source[field.name] for field in fields(kind) if field.name in source}

    latencies = {name: document.get(f"{name}_ms") for name in slo.PERCENTILES}
    server = ServerSide(**pick(ServerSide, document["server"]))
    return Trial(**pick(Trial, document) | {"latency_ms": latencies, "server": server})


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
        self.state.note(trial.rate or 0.0, trial.is_sustained if trial.valid else None)

    def document(self) -> Document:
        """Return the search as JSON."""
        low, high = self.interval()
        peaks = {"peak_rps": round(self.peak(), 1), "low_rps": round(low, 1), "high_rps": round(high, 1)}
        return {"start": self.start, **peaks, "trials": [trial.document() for trial in self.trials]}


def search_around(rate: float, factor: float) -> PeakSearch:
    """Begin a search at a rate that is right within a factor with a probability of two thirds."""
    rates = np.geomspace(rate / factor**4, rate * factor**4, 2000)
    weights = np.exp(-0.5 * (np.log(rates / rate) / np.log(factor)) ** 2)
    return PeakSearch((rate, factor), Search(Belief(rates, weights / weights.sum())))


def search_from(document: Document) -> PeakSearch:
    """Read a search from JSON; the belief is computed from its trials."""
    search = search_around(*document["start"])
    for trial in document["trials"]:
        search.note(trial_from(trial))
    return search
