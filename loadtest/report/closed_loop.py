"""Reports of a load test: a table for the terminal, Markdown and one self-contained HTML page, JSON for scripts."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape

from clients.statistics import STAGES

Document = dict[str, Any]
REPORTS = Path("build/loadtest")
COLUMNS = ("requests", "errors", "rps", "p50_ms", "p95_ms", "p99_ms", "max_ms")


def number(value: Any) -> str:
    """A figure as people read it."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" if value < 100 else f"{value:.1f}"


def rows(result: Document) -> list[list[str]]:
    """A header and one row per model, with a total: the client's figures, then the server's."""
    header = [
        "model",
        *(column.replace("_", " ") for column in COLUMNS),
        "mean batch",
        *(f"{s.replace('_', ' ')} µs" for s in STAGES),
    ]
    body = []
    for name, model in result["models"].items():
        server = model["server"]
        values = [
            *(model[column] for column in COLUMNS),
            server.get("mean_batch"),
            *(server.get(f"{s}_us") for s in STAGES),
        ]
        body.append([name, *map(number, values)])
    total = ["all", *(number(result[column]) for column in COLUMNS), number(result["mean_batch"]), *[""] * len(STAGES)]
    return [header, *body, total]


def heading(result: Document) -> str:
    """What was tested, in one line."""
    rate = f"{result['arrivals']} arrivals at {result['rate'] or 'its own'}/s, " if result["loop"] == "open" else ""
    return (
        f"{result['protocol']} {result['host']}, {rate}{result['users']} users, "
        f"client batch {result['client_batch']}, {result['duration_s']:g} s"
    )


def notes(result: Document) -> list[str]:
    """What must be said beside the figures: objectives, errors, other clients, payloads that are not real."""
    lines = [f"INVALID: {text}" for text in result["invalid_because"]]
    lines += [f"SLO missed: {text}" for text in result["slo_missed"]]
    if result["slo"] and not lines:
        lines.append(f"SLO met: {', '.join(result['slo'])}")
    lines += [f"{count} errors: {kind}" for kind, count in result["error_kinds"].items()]
    lines += [
        f"{name}: the server counted {model['server']['requests']:,} requests, this test sent {model['requests']:,}: "
        "others use the server, so its figures are not this test's alone"
        for name, model in result["models"].items()
        if model["server"] and foreign(model, result["users"])
    ]
    made_up = [name for name, model in result["models"].items() if model["payload"] == "synthetic"]
    return lines + ([f"Random inputs, not samples: {', '.join(made_up)}"] if made_up else [])


def foreign(model: Document, users: int) -> bool:
    """Whether the server counted more than this test sent; a request per user may be under way at the end."""
    return bool(model["server"]["requests"] > 1.01 * model["requests"] + users)


def text(result: Document) -> str:
    """The table for a terminal."""
    table = rows(result)
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    ]
    return "\n".join([heading(result), *lines, *notes(result)])


def markdown_table(table: list[list[str]]) -> list[str]:
    """A header and rows in Markdown, all columns but the first to the right."""
    lines = ["| " + " | ".join(row) + " |" for row in table]
    return [lines[0], "|---" + "|---:" * (len(table[0]) - 1) + "|", *lines[1:]]


def markdown(result: Document) -> str:
    """The same as a Markdown document."""
    lines = markdown_table(rows(result))
    return "\n".join([f"# Load test: {heading(result)}", "", *lines, "", *(f"- {note}" for note in notes(result)), ""])


def bars(result: Document) -> list[Document]:
    """Per model, where a request's time went: the server's stages, and what is left to network and client."""
    found = []
    for name, model in result["models"].items():
        stages = {stage: model["server"].get(f"{stage}_us") or 0.0 for stage in STAGES}
        if model["mean_ms"] is None:
            continue
        rest = max(0.0, model["mean_ms"] * 1000 - sum(stages.values()))
        parts = {**stages, "network_and_client": rest}
        total = sum(parts.values()) or 1.0
        found.append(
            {
                "model": name,
                "total_us": total,
                "parts": [
                    {"name": part.replace("_", " "), "us": value, "share": value / total * 100}
                    for part, value in parts.items()
                ],
            }
        )
    return found


def polyline(result: Document, width: float, height: float) -> Document:
    """The percentile curve in a plot of this size: x is the percentile, y the latency from 0."""
    points = result["curve"]
    highest = max((ms for _, ms in points), default=1.0) * 1.05
    line = " ".join(f"{level / 100 * width:.1f},{height - ms / highest * height:.1f}" for level, ms in points)
    ticks = [{"y": height - share * height, "label": number(share * highest)} for share in (0, 0.25, 0.5, 0.75, 1)]
    return {"line": line, "ticks": ticks, "width": width, "height": height}


def html(result: Document) -> str:
    """One page that needs nothing else."""
    environment = Environment(loader=PackageLoader("loadtest", "."), autoescape=select_autoescape())
    return environment.get_template("report.html").render(
        heading=heading(result),
        table=rows(result),
        notes=notes(result),
        passed=result["passed"],
        bars=bars(result),
        plot=polyline(result, 560, 220),
    )


def write(result: Document, folder: Path) -> Path:
    """Write <protocol>.json, .md and .html into a folder, each in one rename; returns the page's path."""
    contents = {"json": json.dumps(result, indent=2), "md": markdown(result), "html": html(result)}
    return publish(contents, folder, result["protocol"])


def publish(contents: dict[str, str], folder: Path, stem: str) -> Path:
    """Write one file per suffix, each in one rename; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, content in contents.items():
        handle, staged = tempfile.mkstemp(dir=folder, prefix=".report-")
        with os.fdopen(handle, "w") as stream:
            stream.write(content)
        os.replace(staged, folder / f"{stem}.{suffix}")
    return folder / f"{stem}.html"
