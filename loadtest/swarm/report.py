"""The report of a test with Locust: text for the terminal, a page, and JSON for scripts."""

from pathlib import Path

from clients.command import text_table
from clients.statistics import STAGES
from loadtest.analysis.counters import stages_us
from loadtest.report.page import Page, Section, Table, publish
from loadtest.report.plots import by_percentile, stage_bars
from loadtest.report.text import number, outcome_notes
from loadtest.swarm.results import Seen, SwarmResult

_COLUMNS = ("p50_ms", "p95_ms", "p99_ms", "max_ms")


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
        Section("Latency in ms, by percentile", by_percentile(result.curve)),
    ]
    if stages := mean_stages(result):
        sections.append(Section("Where the time of a request goes", stage_bars(stages)))
    verdict = "passed" if result.has_passed else "failed"
    return Page(f"Load test over {result.options.protocol}", _setting(result), sections, verdict, notes(result))


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
    options = result.options
    return (
        f"{options.protocol} {result.host}, {options.users} users, client batch {options.client_batch}, "
        f"{result.duration_s:.3g} s"
    )


def _rows(result: SwarmResult) -> Table:
    names = ["requests", "errors", "rps", *_COLUMNS, "mean batch", *(f"{stage} µs" for stage in STAGES)]
    header = ["model", *(name.replace("_", " ") for name in names)]
    rows = []
    for name, seen in result.models.items():
        server = result.servers.get(name)
        counted = [server.mean_batch, *server.stages().values()] if server else [None] * (1 + len(STAGES))
        rows.append([name, *_cells(seen), *map(number, counted)])
    return [header, *rows, ["all", *_cells(result.seen), number(result.mean_batch), *[""] * len(STAGES)]]


def _cells(seen: Seen) -> list[str]:
    return [number(value) for value in (seen.requests, seen.errors, seen.rps, *map(seen.latencies.get, _COLUMNS))]
