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
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from tritonclient.grpc.model_config_pb2 import ModelConfig

from clients.command import positive, progress, say, text_table
from clients.connection import PROTOCOLS
from clients.output import try_folder
from loadtest.report import page
from tools.bench.copies import Change, write_copy
from tools.bench.options import DEFAULT, TRAINED, BenchOptions, add_bench_arguments, trained_models
from tools.bench.perf_analyzer import measure
from tools.repository import ROOT
from tools.serve.tritonserver import Options, Server

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COMMITTED = "as committed"
_PAGES = ROOT / "build" / "parallel"
_NOTES = "ratio: to the committed config at the same concurrency. Each setting changes that one thing alone."


@dataclass(frozen=True, kw_only=True)
class ParallelOptions(BenchOptions):
    """The shared options, and the settings to try: delays in microseconds, instances, CPU threads."""

    protocol: str
    delays: list[int]
    instances: list[int]
    threads: list[int]
    output: Path


# Requests per second and p99 in milliseconds, by setting and concurrency.
_Figures = dict[str, dict[int, tuple[float, float]]]


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
            setting: {str(level): {"rps": round(rps, 1), "p99_ms": p99} for level, (rps, p99) in levels.items()}
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
    for (copy, level), rounds in measured.items():
        figures[copies[copy]][level] = median(run.rate for run in rounds), median(run.p99_ms for run in rounds)
    return figures


def _report(model: str, figures: _Figures, options: ParallelOptions) -> None:
    table = _table(figures)
    title = f"{model}: what parallelism gains"
    setting = f"{options.protocol}, one inference per request, medians of {options.rounds} interleaved rounds"
    path = options.output / f"{model}.html"
    print(f"\n{model}: {setting}\n{text_table(table)}", flush=True)
    page.write(path, title, setting, _plot(figures), table, _NOTES, frozenset({COMMITTED}))
    say(f"Page: {path}")


def _table(figures: _Figures) -> list[list[str]]:
    committed = figures[COMMITTED]
    table = [["setting", *(title for level in committed for title in (f"infer/s at {level}", "ratio", "p99 ms"))]]
    for setting, levels in figures.items():
        cells = [setting]
        for level, (rps, p99_ms) in levels.items():
            cells += [f"{rps:,.0f}", f"{rps / committed[level][0]:.2f}", f"{p99_ms:.1f}"]
        table.append(cells)
    return table


def _plot(figures: _Figures) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    axes = figure.subplots()
    levels, width = list(figures[COMMITTED]), 0.8 / len(figures)
    for number, (setting, own) in enumerate(figures.items()):
        places = [group + number * width for group in range(len(levels))]
        axes.bar(places, [own[level][0] for level in levels], width, label=setting)
    middles = [group + 0.4 - width / 2 for group in range(len(levels))]
    axes.set_xticks(middles, [f"concurrency {level}" for level in levels])
    axes.set_ylabel("inferences per second")
    axes.legend(fontsize=8)
    axes.grid(axis="y", alpha=0.3)
    return figure
