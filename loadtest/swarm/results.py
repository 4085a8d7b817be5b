"""The result of one test with Locust: what the clients saw beside what the server counted."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from loadtest.analysis.counters import Counted, Snapshot, counted
from loadtest.analysis.histograms import curve
from loadtest.slo import Objective, missed
from loadtest.swarm.latencies import Latencies, percentiles

if TYPE_CHECKING:
    from locust.env import Environment
    from locust.stats import StatsEntry

    from loadtest.swarm.options import SwarmOptions


@dataclass(frozen=True)
class Seen:
    """What the clients saw; `latencies` in milliseconds by name, see `percentiles`."""

    requests: int
    errors: int
    rps: float
    latencies: dict[str, float | None]

    def values(self) -> dict[str, float | None]:
        """The figures that objectives limit, by the names that `loadtest.slo` uses."""
        error_share = self.errors / self.requests if self.requests else None
        return {"error_share": error_share, "rps": self.rps, **self.latencies}

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {"requests": self.requests, "errors": self.errors, **self.values()}


@dataclass(frozen=True)
class ModelResult:
    """One model; `server` is None where the server did not answer at the end, `payload` samples or synthetic."""

    seen: Seen
    server: Counted | None
    payload: str

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {**self.seen.document(), "server": asdict(self.server) if self.server else {}, "payload": self.payload}


@dataclass(frozen=True)
class SwarmResult:
    """One test; `curve` holds points (percentile, milliseconds) of all models together."""

    protocol: str
    host: str
    users: int
    client_batch: int
    duration_s: float
    seen: Seen
    models: dict[str, ModelResult]
    error_kinds: dict[str, int]
    objectives: tuple[Objective, ...]
    curve: list[tuple[float, float]]

    @property
    def slo_missed(self) -> list[str]:
        """The objectives that were missed, with what was reached."""
        return missed(list(self.objectives), self.seen.values())

    @property
    def passed(self) -> bool:
        """Whether something was answered and all objectives were met."""
        return not self.slo_missed and self.seen.requests > self.seen.errors

    @property
    def mean_batch(self) -> float | None:
        """Inferences per execution over all models: the batch size that Triton really formed."""
        counts = [model.server for model in self.models.values() if model.server]
        executions = sum(count.executions for count in counts)
        return round(sum(count.inferences for count in counts) / executions, 2) if executions else None

    def document(self) -> dict[str, Any]:
        """As JSON; times in milliseconds for the client, mean microseconds per request for the server."""
        return {
            "protocol": self.protocol,
            "host": self.host,
            "users": self.users,
            "client_batch": self.client_batch,
            "duration_s": round(self.duration_s, 2),
            **self.seen.document(),
            "mean_batch": self.mean_batch,
            "error_kinds": self.error_kinds,
            "slo": [objective.text for objective in self.objectives],
            "slo_missed": self.slo_missed,
            "passed": self.passed,
            "models": {name: model.document() for name, model in self.models.items()},
            "curve": self.curve,
        }


def swarm_result(
    environment: "Environment",
    options: "SwarmOptions",
    latencies: Latencies,
    counters: Snapshot,
    sources: dict[str, str],
    objectives: list[Objective],
) -> SwarmResult:
    """Summarize a test.

    Args:
        environment: Locust's, with its statistics.
        options: of the test.
        latencies: of its requests.
        counters: what the server counted during the test; empty where it no longer answers.
        sources: source of the payload by model.
        objectives: what the test must meet.
    """
    stats = environment.stats
    # Up to the last answer.
    seconds = max(0.001, (stats.total.last_request_timestamp or stats.total.start_time) - stats.total.start_time)

    def model(name: str, source: str) -> ModelResult:
        seen = _seen(stats.get(name, "POST"), seconds, percentiles(latencies.histogram(name)))
        return ModelResult(seen, counted(counters[name]) if name in counters else None, source)

    total = latencies.total()
    return SwarmResult(
        protocol=options.protocol,
        host=environment.host or "",
        users=options.users,
        client_batch=options.client_batch,
        duration_s=seconds,
        seen=_seen(stats.total, seconds, percentiles(total)),
        models={name: model(name, source) for name, source in sources.items()},
        error_kinds={str(error.error): error.occurrences for error in stats.errors.values()},
        objectives=tuple(objectives),
        curve=curve(total),
    )


def _seen(entry: "StatsEntry", seconds: float, latencies: dict[str, float | None]) -> Seen:
    answered = entry.num_requests - entry.num_failures
    return Seen(entry.num_requests, entry.num_failures, round(answered / seconds, 1), latencies)
