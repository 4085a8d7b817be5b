"""A direct run in words for the terminal."""

from typing import Any

from loadtest import rejects, scenarios
from loadtest.report.closed_loop import number
from loadtest.slo import LATENCIES

Document = dict[str, Any]


def heading(document: Document) -> str:
    """What was tested, in one line."""
    if document["loop"] == "closed":
        load = f"{document['concurrency']} callers, closed loop"
    else:
        rate = f" at {document['rate']:g}/s" if document["rate"] else ""
        load = f"{document['arrivals']} arrivals{rate}"
    return f"{document['model']}, {document['protocol']} {document['url']}, {load}, {document['duration_s']:g} s"


def latency_rows(document: Document) -> list[list[str]]:
    """A header, and a row per percentile: its value, its interval, and what the sample is worth for it."""
    rows = [["latency", "ms", "95 % interval", "worth", "needed"]]
    for name, figure in LATENCIES.items():
        found = document["intervals_ms"].get(name, {})
        rows.append([name, number(document[figure]), interval(found), *(number(found.get(k)) for k in WEIGHTS)])
    return rows


WEIGHTS = ("worth", "needed")


def interval(found: Document) -> str:
    """An interval as people read it; an open end is one that the run is too short to tell."""
    if found.get("value") is None:
        return "-"
    low, high = found["low"], found["high"]
    return f"{'?' if low is None else number(low)} to {'?' if high is None else number(high)}"


def notes(document: Document) -> list[str]:
    """What must be said beside the figures."""
    lines = [f"INVALID, the generator was the bottleneck: {text}" for text in document["invalid_because"]]
    lines += [f"SLO missed: {text}" for text in document["slo_missed"]]
    if document["slo"] and document["passed"]:
        lines.append(f"SLO met: {', '.join(document['slo'])}")
    lines += [f"{count:,} errors: {kind}" for kind, count in document["error_kinds"].items()]
    lines += rejects.sentences(document["server"])
    if document["steady"] is False:
        lines.append(
            "Not steady: the server does not keep up with this load, so latencies say more about the test's length"
        )
    if held := document["generator"]["held"]:
        lines.append(f"{held:,} requests found all connections waiting for the server, and waited as well")
    if document["payload"] == "synthetic":
        lines.append("Random inputs, not samples")
    return lines


def rates(document: Document) -> list[str]:
    """Rates, and the cost of them on either side."""
    generator, limit = document["generator"], document["goodput_limit_ms"]
    good = f", {number(document['goodput_rps'])} within {limit:g} ms" if limit else ""
    stages = ", ".join(f"{name.replace('_', ' ')} {number(value)}" for name, value in document["stages_us"].items())
    server = document["server"]
    return [
        f"requests per second: {number(document['offered_rps'])} offered, {number(document['rps'])} answered{good}",
        f"µs per request: {stages}",
        f"server: mean batch {number(server['mean_batch'])}, {number(server['busy_instances'])} of "
        f"{server['instances']} instance(s) busy, {number(server['requests_per_core_s'])} requests per core-second",
        f"generator: {generator['cpu_share']:.0%} of a core, {number(generator['requests_per_core_s'])} requests "
        f"per core-second, late by {number(generator['lag_p99_ms'])} ms (p99)",
    ]


def table(rows: list[list[str]]) -> list[str]:
    """Aligned columns, the first to the left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def text(document: Document) -> str:
    """The whole run; an invalid one without what it would say of the server."""
    latencies = table(latency_rows(document)) if document["valid"] else []
    head = [heading(document), *scenarios.sentence(document)]
    return "\n".join([*head, *latencies, *(rates(document) if document["valid"] else []), *notes(document)])
