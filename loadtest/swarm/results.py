"""The result of one test with Locust: what the clients saw beside what the server counted."""

from collections.abc import Sequence
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
    """What the clients saw of one model or of all; `latencies` in milliseconds by name, see `percentiles`."""

    requests: int
    errors: int
    rps: float
    latencies: dict[str, float | None]

    def document(self) -> dict[str, Any]:
        """As JSON, with all figures that objectives limit."""
        error_share = self.errors / self.requests if self.requests else None
        counts = {"requests": self.requests, "errors": self.errors, "error_share": error_share, "rps": self.rps}
        return counts | self.latencies


@dataclass(frozen=True)
class SwarmResult:
    """One test."""

    options: "SwarmOptions"
    host: str
    duration_s: float
    seen: Seen  # all models together
    models: dict[str, Seen]
    servers: dict[str, Counted]  # the server's counters by model; empty where it did not answer at the end
    sources: dict[str, str]  # of the inputs by model, samples or synthetic
    error_kinds: dict[str, int]
    objectives: Sequence[Objective]
    curve: list[tuple[float, float]]  # points (percentile, milliseconds) of all models together

    @property
    def slo_missed(self) -> list[str]:
        """The objectives that were missed, with what was reached."""
        return missed(self.objectives, self.seen.document())

    @property
    def has_passed(self) -> bool:
        """Whether something was answered and all objectives were met."""
        return not self.slo_missed and self.seen.requests > self.seen.errors

    @property
    def mean_batch(self) -> float | None:
        """Inferences per execution over all models: the batch size that Triton really formed."""
        executions = sum(server.executions for server in self.servers.values())
        inferences = sum(server.inferences for server in self.servers.values())
        return round(inferences / executions, 2) if executions else None

    def document(self) -> dict[str, Any]:
        """As JSON; times in milliseconds for the client, mean microseconds per request for the server."""
        servers = {name: asdict(server) for name, server in self.servers.items()}
        return {
            "protocol": self.options.protocol,
            "host": self.host,
            "users": self.options.users,
            "client_batch": self.options.client_batch,
            "duration_s": round(self.duration_s, 2),
            **self.seen.document(),
            "mean_batch": self.mean_batch,
            "error_kinds": self.error_kinds,
            "slo": [objective.text for objective in self.objectives],
            "slo_missed": self.slo_missed,
            "passed": self.has_passed,
            "models": {
                name: {**seen.document(), "server": servers.get(name, {}), "payload": self.sources[name]}
                for name, seen in self.models.items()
            },
            "curve": self.curve,
        }


def swarm_result(
    environment: "Environment",
    options: "SwarmOptions",
    latencies: Latencies,
    counters: Snapshot,
    sources: dict[str, str],
    objectives: Sequence[Objective],
) -> SwarmResult:
    """Summarize a test; `counters` are those that the server added during it."""
    stats, total = environment.stats, latencies.total()
    seconds = max(0.001, (stats.total.last_request_timestamp or stats.total.start_time) - stats.total.start_time)

    def seen(entry: "StatsEntry", figures: dict[str, float | None]) -> Seen:
        answered = entry.num_requests - entry.num_failures
        return Seen(entry.num_requests, entry.num_failures, round(answered / seconds, 1), figures)

    return SwarmResult(
        options=options,
        host=environment.host or "",
        duration_s=seconds,
        seen=seen(stats.total, percentiles(total)),
        models={name: seen(stats.get(name, "POST"), percentiles(latencies.histogram(name))) for name in sources},
        servers={name: counted(counters[name]) for name in sources if name in counters},
        sources=sources,
        error_kinds={str(error.error): error.occurrences for error in stats.errors.values()},
        objectives=objectives,
        curve=curve(total),
    )
