"""The report of a test with Locust: text for the terminal, a page, and JSON for scripts."""

from pathlib import Path

from clients.command import text_table
from clients.statistics import STAGES
from loadtest.report.page import Page, Section, Table, publish
from loadtest.report.plots import by_percentile, stage_bars
from loadtest.report.text import number, outcome_notes
from loadtest.swarm.results import ModelResult, Seen, SwarmResult

_COLUMNS = ("p50_ms", "p95_ms", "p99_ms", "max_ms")
_NOTE = (
    "Latencies are the client's, from an HDR histogram; mean batch and stage times are Triton's own counters over the "
    "test, per request."
)


def write(result: SwarmResult, folder: Path) -> Path:
    """Write PROTOCOL.json, .md and .html; returns the path of the last."""
    return publish(page_of(result), result.document(), folder, result.protocol)


def text(result: SwarmResult) -> str:
    """The test for a terminal."""
    return "\n".join([_setting(result), text_table(_rows(result)), *notes(result)])


def page_of(result: SwarmResult) -> Page:
    """The test as a page."""
    sections = [
        Section("Client and server", table=_rows(result), marked=frozenset({"all"}), notes=[_NOTE]),
        Section("Latency in ms, by percentile", by_percentile(result.curve)),
    ]
    if stages := mean_stages(result):
        sections.append(Section("Where the time of a request goes", stage_bars(stages)))
    verdict = "passed" if result.passed else "failed"
    return Page(f"Load test over {result.protocol}", _setting(result), sections, verdict, notes(result))


def mean_stages(result: SwarmResult) -> dict[str, dict[str, float]]:
    """Mean microseconds per request by model and stage: the server's, and what is left for network and client."""
    return {name: _stages(model) for name, model in result.models.items() if model.seen.latencies["mean_ms"]}


def _stages(model: ModelResult) -> dict[str, float]:
    stages = model.server.stages() if model.server else dict.fromkeys(STAGES, 0.0)
    rest = (model.seen.latencies["mean_ms"] or 0.0) * 1000 - sum(stages.values())
    return {**stages, "network_and_client": max(0.0, rest)}


def notes(result: SwarmResult) -> list[str]:
    """What to report beside the figures: objectives, errors, other clients, random inputs."""
    slo = [objective.text for objective in result.objectives]
    lines = outcome_notes(slo, result.slo_missed, result.passed, result.error_kinds)
    lines += [
        f"{name}: the server counted {model.server.requests:,} requests, this test sent {model.seen.requests:,}: "
        "other clients use the server, so its figures are not this test's alone"
        for name, model in result.models.items()
        # A request per user may be under way at the end.
        if model.server and model.server.requests > 1.01 * model.seen.requests + result.users
    ]
    random = [name for name, model in result.models.items() if model.payload == "synthetic"]
    return lines + ([f"Random inputs, not samples: {', '.join(random)}"] if random else [])


def _setting(result: SwarmResult) -> str:
    return (
        f"{result.protocol} {result.host}, {result.users} users, client batch {result.client_batch}, "
        f"{result.duration_s:.3g} s"
    )


def _rows(result: SwarmResult) -> Table:
    names = ["requests", "errors", "rps", *_COLUMNS, "mean batch", *(f"{stage} µs" for stage in STAGES)]
    header = ["model", *(name.replace("_", " ") for name in names)]
    rows = [[name, *_cells(model.seen), *_server_cells(model)] for name, model in result.models.items()]
    return [header, *rows, ["all", *_cells(result.seen), number(result.mean_batch), *[""] * len(STAGES)]]


def _cells(seen: Seen) -> list[str]:
    return [number(value) for value in (seen.requests, seen.errors, seen.rps, *map(seen.latencies.get, _COLUMNS))]


def _server_cells(model: ModelResult) -> list[str]:
    if model.server is None:
        return ["-"] * (1 + len(STAGES))
    return [number(model.server.mean_batch), *map(number, model.server.stages().values())]
