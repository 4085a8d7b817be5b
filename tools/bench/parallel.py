"""What parallelism gains on this host: dynamic batching, queue delay, instances and threads, measured at the server.

    python -m tools.bench parallel
    python -m tools.bench parallel mnist_mlp --concurrency 1 8 64 --instances 1 2 4

One server loads copies of a model that differ from its config in one setting each. They are measured with perf_analyzer
in interleaved rounds, so that a slowdown of the machine affects all of them. On a host with a GPU the instances are
KIND_GPU. The page with the plot goes to build/parallel/<model>.html.
"""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelConfig

from clients.command import positive, progress, say, text_table
from clients.connection import PROTOCOLS
from clients.output import try_folder
from loadtest.report.axes import Axis
from loadtest.report.charts import Dot, dots
from loadtest.report.drawing import Chart
from loadtest.report.page import Page, Section, write
from tools.bench.copies import Change, write_copy
from tools.bench.options import DEFAULT, TRAINED, BenchOptions, add_bench_arguments, trained_models
from tools.bench.perf_analyzer import measure
from tools.check.releases import EMBEDDED, SERVERS
from tools.repository import ROOT
from tools.serve.tritonserver import Options, Server

COMMITTED = "as committed"
_PAGES = ROOT / "build" / "parallel"
_NOTES = (
    "ratio: to the committed config in the same round, at the same concurrency; the median, and in the chart the range "
    "of all rounds. A range that includes 1 shows no difference. Each setting changes that one thing alone."
)


@dataclass(frozen=True, kw_only=True)
class ParallelOptions(BenchOptions):
    """The shared options, and the settings to try: delays in microseconds, instances, CPU threads."""

    protocol: str
    delays: list[int]
    instances: list[int]
    threads: list[int]
    output: Path


@dataclass(frozen=True)
class _Figure:
    rps: float
    p99_ms: float
    ratios: Sequence[float]  # of requests per second to those of the committed config, by round


_Figures = dict[str, dict[int, _Figure]]  # by setting and concurrency


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's options."""
    add_bench_arguments(parser, ParallelOptions, TRAINED, [1, 8, 32], "each of three windows", 0.7, rounds=3)
    parser.add_argument("--delays", nargs="*", type=int, default=[100, 1000], metavar="US", help="(default: 100 1000)")
    parser.add_argument("--instances", nargs="*", type=positive, default=[2], help="besides 1 (default: 2)")
    parser.add_argument("--threads", nargs="*", type=positive, default=[2], help="besides 1 (default: 2)")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="grpc", help=DEFAULT)
    parser.add_argument("--output", type=Path, default=_PAGES, help=f"folder of the pages {DEFAULT}")


def run(options: ParallelOptions) -> dict[str, Any]:
    """Measure all models, report each, and return the figures by model, setting and concurrency."""
    document = {}
    try_folder(options.output, "--output")
    for model in options.models or trained_models():
        figures = _bench(model, options)
        _report(model, figures, options)
        document[model] = {
            setting: {str(level): {"rps": round(one.rps, 1), "p99_ms": one.p99_ms} for level, one in levels.items()}
            for setting, levels in figures.items()
        }
    return document


def write_settings(model: str, options: ParallelOptions, folder: Path) -> dict[str, str]:
    """Write a copy of a model for each setting; returns the setting of each copy.

    Raises:
        RepositoryError: the model does not exist or has no version.
    """
    changes: dict[str, Change] = {
        COMMITTED: lambda config: None,
        "batching off": lambda config: config.ClearField("dynamic_batching"),
        **{f"delay {delay} µs": _with_delay(delay) for delay in options.delays},
        **{f"{count} instances": _with_instances(count) for count in options.instances},
        **{f"{count} threads": _with_threads(count) for count in options.threads},
    }
    return {
        write_copy(model, folder, options.repository.resolve(), f"{model}_{number}", change): setting
        for number, (setting, change) in enumerate(changes.items())
    }


def _with_delay(microseconds: int) -> Change:
    def change(config: ModelConfig) -> None:
        config.dynamic_batching.max_queue_delay_microseconds = microseconds

    return change


def _with_instances(count: int) -> Change:
    def change(config: ModelConfig) -> None:
        for group in config.instance_group:
            group.count = count

    return change


def _with_threads(count: int) -> Change:
    def change(config: ModelConfig) -> None:
        config.parameters["INTRA_OP_THREAD_COUNT"].string_value = str(count)

    return change


def _bench(model: str, options: ParallelOptions) -> _Figures:
    measured = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        copies = write_settings(model, options, Path(scratch))
        with Server(Options(Path(scratch), hardware=options.hardware, ready_timeout=300)) as server:
            url = server.address(options.protocol)
            steps = [(copy, level) for _ in range(options.rounds) for copy in copies for level in options.concurrency]
            for copy, level in progress(steps, model):
                measured[copy, level].append(measure(copy, url, options.protocol, level, options.seconds))
                server.check()
    figures: _Figures = defaultdict(dict)
    committed = next(iter(copies))
    for (copy, level), rounds in measured.items():
        ratios = [run.rate / own.rate for run, own in zip(rounds, measured[committed, level], strict=True)]
        p99_ms = median(run.p99_ms for run in rounds)
        figures[copies[copy]][level] = _Figure(median(run.rate for run in rounds), p99_ms, ratios)
    return figures


def _report(model: str, figures: _Figures, options: ParallelOptions) -> None:
    table = _table(figures)
    title = f"{model}: what parallelism gains"
    setting = f"{options.protocol}, one inference per request, medians of {options.rounds} interleaved rounds"
    path = options.output / f"{model}.html"
    print(f"\n{model}: {setting}\n{text_table(table)}", flush=True)
    sections = [
        Section("Inferences per second, beside the committed config's", _chart(figures)),
        Section("Settings", table=table, marked=frozenset({COMMITTED}), notes=(_NOTES,)),
    ]
    write(Page(title, setting, _outcome(figures), sections, versions={"Triton": f"2.{SERVERS[EMBEDDED]}"}), path)
    say(f"Page: {path}")


def _table(figures: _Figures) -> list[list[str]]:
    levels = figures[COMMITTED]
    table = [["setting", *(title for level in levels for title in (f"infer/s at {level}", "ratio", "p99 ms"))]]
    for setting, own in figures.items():
        cells = [(f"{one.rps:,.0f}", f"{median(one.ratios):.2f}", f"{one.p99_ms:.1f}") for one in own.values()]
        table.append([setting, *(cell for level in cells for cell in level)])
    return table


def _outcome(figures: _Figures) -> str:
    """The fastest setting at each concurrency."""
    texts = []
    for level in figures[COMMITTED]:
        setting, one = max(((setting, own[level]) for setting, own in figures.items()), key=lambda pair: pair[1].rps)
        span = f"{min(one.ratios):.2f} to {max(one.ratios):.2f} by round"
        gain = "" if setting == COMMITTED else f", {median(one.ratios):.2f} times as committed, {span}"
        texts.append(f"{setting} at concurrency {level} ({one.rps:,.0f} inferences per second{gain})")
    return f"Fastest: {'; '.join(texts)}."


def _chart(figures: _Figures) -> Chart:
    given = [
        Dot(setting, f"concurrency {level}", median(one.ratios), (min(one.ratios), max(one.ratios)))
        for setting, own in figures.items()
        for level, one in own.items()
        if setting != COMMITTED
    ]
    about = "inferences per second of each setting at each concurrency, as a ratio to those of the committed config"
    return dots(about, given, Axis("times as many as committed", zero=False), (1.0, "as committed"))
