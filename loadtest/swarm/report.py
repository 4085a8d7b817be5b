"""The result of one test with Locust: what the clients saw beside what the server counted, and its report."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients.command import text_table
from clients.statistics import STAGES, Counted, counted
from loadtest.analysis.counters import Snapshot, stages_us
from loadtest.report.axes import Axis, number
from loadtest.report.charts import MS, by_percentile, stacked_bars
from loadtest.report.page import Page, Section, Table, half, outcome_notes, publish
from loadtest.slo import Objective, missed
from loadtest.swarm.latencies import Latencies, curve, percentiles

if TYPE_CHECKING:
    from locust.env import Environment
    from locust.stats import StatsEntry

    from loadtest.swarm.options import SwarmOptions

_COLUMNS = ("p50_ms", "p95_ms", "p99_ms", "max_ms")


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
        models={name: seen(stats.get(name, "POST"), percentiles(latencies.histograms[name])) for name in sources},
        servers={name: counted(counters[name]) for name in sources if name in counters},
        sources=sources,
        error_kinds={str(error.error): error.occurrences for error in stats.errors.values()},
        objectives=objectives,
        curve=curve(total),
    )


def write(result: SwarmResult, folder: Path) -> Path:
    """Write PROTOCOL.json, .md and .html; returns the path of the last."""
    return publish(page_of(result), result.document(), folder, result.options.protocol)


def text(result: SwarmResult) -> str:
    """The test for a terminal."""
    return "\n".join([_setting(result), text_table(_rows(result)), *notes(result)])


def page_of(result: SwarmResult) -> Page:
    """The test as a page."""
    note = (
        "Latencies are the client's, from an HDR histogram; mean batch and stage times are Triton's own counters over "
        "the test, per request."
    )
    sections = [
        Section("Client and server", table=_rows(result), marked=frozenset({"all"}), notes=[note]),
        half("Latency by percentile", by_percentile("of all models together", {"latency": result.curve})),
    ]
    if stages := mean_stages(result):
        bars = stacked_bars("microseconds of a request by stage, for each model", stages, Axis("per request", "µs"))
        sections.append(half("Where the time of a request goes", bars))
    title, verdict = f"Load test over {result.options.protocol}", "passed" if result.has_passed else "failed"
    return Page(title, _setting(result), _outcome(result), sections, verdict, notes(result))


def _outcome(result: SwarmResult) -> str:
    seen = result.seen
    latencies = [f"{name} {MS.text(seen.latencies.get(f'{name}_ms'))}" for name in ("p50", "p99")]
    failed = f"{seen.errors:,} of {seen.requests:,} requests failed"
    return "; ".join([f"{number(seen.rps)} requests per second answered", *latencies, failed])


def mean_stages(result: SwarmResult) -> dict[str, dict[str, float]]:
    """Mean microseconds per request by model and stage: the server's, and what is left for network and client."""
    means = {name: seen.latencies["mean_ms"] for name, seen in result.models.items()}
    return {name: stages_us(result.servers.get(name), mean) for name, mean in means.items() if mean}


def notes(result: SwarmResult) -> list[str]:
    """What to report beside the figures: objectives, errors, other clients, random inputs."""
    slo = [objective.text for objective in result.objectives]
    lines = outcome_notes(slo, result.slo_missed, result.has_passed, result.error_kinds)
    for name, server in result.servers.items():
        sent = result.models[name].requests
        # A request per user may be under way at the end.
        if server.requests > 1.01 * sent + result.options.users:
            lines.append(
                f"{name}: the server counted {server.requests:,} requests, this test sent {sent:,}: other clients use "
                "the server, so its figures are not this test's alone"
            )
    random = [name for name, source in result.sources.items() if source == "synthetic"]
    return lines + ([f"Random inputs, not samples: {', '.join(random)}"] if random else [])


def _setting(result: SwarmResult) -> str:
    options, place = result.options, result.host.rpartition("/")[2]
    asked = f"{options.protocol} {place}, {options.users} users, client batch {options.client_batch}"
    return f"{asked}, {result.duration_s:.3g} s"


def _rows(result: SwarmResult) -> Table:
    names = [
        "requests",
        "errors",
        "rps",
        *_COLUMNS,
        "mean batch",
        *(f"{stage.removeprefix('compute_')} µs" for stage in STAGES),
    ]
    header = ["model", *(name.replace("_", " ") for name in names)]
    rows = []
    for name, seen in result.models.items():
        server = result.servers.get(name)
        figures = [server.mean_batch, *server.stages().values()] if server else [None] * (1 + len(STAGES))
        rows.append([name, *_cells(seen), *map(number, figures)])
    return [header, *rows, ["all", *_cells(result.seen), number(result.mean_batch), *[""] * len(STAGES)]]


def _cells(seen: Seen) -> list[str]:
    return [number(value) for value in (seen.requests, seen.errors, seen.rps, *map(seen.latencies.get, _COLUMNS))]
