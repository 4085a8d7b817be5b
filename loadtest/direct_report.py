"""The report of a direct run: one self-contained page, the same as Markdown, and JSON for scripts."""

import json
from pathlib import Path

from jinja2 import Environment, PackageLoader, select_autoescape

from loadtest.explain import words
from loadtest.measurement import Document
from loadtest.plots import Plot, by_percentile, over_time
from loadtest.report.closed_loop import markdown_table, number, publish
from loadtest.scenarios import sentence
from loadtest.summary import heading, latency_rows, notes, rates

ABOUT = ("seed", "client_batch", "payload", "warm_up_s", "steady")


def plots(document: Document) -> list[Plot]:
    """Rate and latency over time, and the percentile curve; none for a run that is not valid."""
    if not document["valid"]:
        return []
    course, seconds = document["course"], document["duration_s"]
    # Each point stands in the middle of its stretch, which all have the same length.
    half = seconds / len(course) / 2
    lines = {
        name: [(one["from_s"] + half, one[name]) for one in course]
        for name in ("rps", "errors", "p50_ms", "p99_ms", "max_ms")
    }
    return [
        over_time("requests due per second", {"requests": lines["rps"]}, seconds),
        over_time(
            "latency in ms, by due time",
            {"p50": lines["p50_ms"], "p99": lines["p99_ms"], "max": lines["max_ms"]},
            seconds,
        ),
        by_percentile("latency in ms by percentile", document["curve"]),
    ]


def shares(document: Document) -> list[Document]:
    """The stages of a request with their share of its time, in percent."""
    total = sum(document["stages_us"].values()) or 1.0
    return [{"name": name, "us": value, "share": 100 * value / total} for name, value in document["stages_us"].items()]


def batch_rows(document: Document) -> list[list[str]]:
    """Executions by batch size."""
    batches = document["server"].get("batches", {})
    rows = [[size, number(one["executions"]), number(one["ms"])] for size, one in batches.items()]
    return [["batch size", "executions", "ms each"], *rows]


def about(document: Document) -> list[list[str]]:
    """With what the figures were made: generator, server, options."""
    generator = [[f"generator: {name.replace('_', ' ')}", str(value)] for name, value in document["generator"].items()]
    server = document["server"]
    known = [name for name in server if name not in ("batches", "members", "rejects")]
    of_server = [[f"server: {name.replace('_', ' ')}", str(server[name])] for name in known]
    options = [[name.replace("_", " "), str(document[name])] for name in ABOUT]
    machine = [[f"host: {name}", str(value)] for name, value in document["host"].items()]
    return [["what", "value"], *options, *generator, *of_server, *machine]


def markdown(document: Document) -> str:
    """The run as a Markdown document."""
    said = [*sentence(document), *notes(document), *words(document["explanation"])]
    parts = [f"# Load test: {heading(document)}", "", *(f"- {line}" for line in said), ""]
    if document["valid"]:
        parts += [*markdown_table(latency_rows(document)), "", *(f"- {line}" for line in rates(document)), ""]
    return "\n".join([*parts, *markdown_table(batch_rows(document)), "", *markdown_table(about(document)), ""])


def html(document: Document) -> str:
    """One page that needs nothing else."""
    environment = Environment(loader=PackageLoader("loadtest", "."), autoescape=select_autoescape())
    return environment.get_template("direct_report.html").render(
        heading=heading(document),
        verdict="invalid" if not document["valid"] else "passed" if document["passed"] else "failed",
        notes=[*sentence(document), *notes(document)],
        explanation=words(document["explanation"]),
        latencies=latency_rows(document) if document["valid"] else [],
        rates=rates(document) if document["valid"] else [],
        plots=plots(document),
        stages=shares(document),
        batches=batch_rows(document),
        about=about(document),
    )


def stem(document: Document) -> str:
    """The name of a run's files."""
    scenario = document.get("scenario")
    return f"{document['model']}-{document['protocol']}-{scenario['name'] if scenario else document['loop']}"


def write(document: Document, folder: Path) -> Path:
    """Write <model>-<protocol>-<scenario, else open or closed>.json, .md and .html; returns the page's path."""
    contents = {"json": json.dumps(document, indent=2), "md": markdown(document), "html": html(document)}
    return publish(contents, folder, stem(document))
