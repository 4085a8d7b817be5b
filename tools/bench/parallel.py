"""What parallelism pays on this host: dynamic batching, instances, threads, measured through the server.

    python -m tools.bench_parallel
    python -m tools.bench_parallel mnist_mlp --concurrency 1 8 64 --instances 1 2 4

One run serves copies of a model that differ in one setting of their config each, and measures them with
perf_analyzer in rounds that go through all of them in turn, so that a machine that slows down slows all of them. On
a host with a GPU the instances are KIND_GPU. The page with the plot goes to build/parallel/<model>.html; the last
line of stdout is one compact JSON document.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from tritonclient.grpc.model_config_pb2 import ModelConfig

from clients.command import progress, text_table
from loadtest.report import page
from tools.bench.backend import default_models
from tools.bench.copies import Change, write_copy
from tools.bench.perf_analyzer import PerfAnalyzerError, measure
from tools.repository import REPOSITORY, ROOT, RepositoryError
from tools.serve.hardware import HARDWARE, use_gpu
from tools.serve.server_error import ServerError
from tools.serve.tritonserver import Options, Server

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGES = ROOT / "build" / "parallel"
COMMITTED = "as committed"
# Setting → concurrency → (inferences per second, p99 in ms)
Figures = dict[str, dict[int, tuple[float, float]]]


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench_parallel", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help="(default: the trained ones of `make build`)")
    parser.add_argument("--concurrency", nargs="+", type=int, default=[1, 8, 32], help="(default: 1 8 32)")
    parser.add_argument("--delays", nargs="*", type=int, default=[100, 1000], metavar="US", help="(default: 100 1000)")
    parser.add_argument("--instances", nargs="*", type=int, default=[2], help="beside 1 (default: 2)")
    parser.add_argument("--threads", nargs="*", type=int, default=[2], help="intra-op, beside 1 (default: 2)")
    parser.add_argument("--rounds", type=int, default=3, help="through all settings (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.7, help="of each of three windows (default: %(default)s)")
    parser.add_argument("--protocol", choices=("http", "grpc"), default="grpc", help="(default: %(default)s)")
    parser.add_argument("--hardware", choices=HARDWARE, default="auto", help="as for tools.serve (default: auto)")
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help="(default: %(default)s)")
    parser.add_argument("--output", type=Path, default=PAGES, help="folder of the pages (default: %(default)s)")
    return parser


def settings(arguments: argparse.Namespace) -> dict[str, Change]:
    """Each setting by its name: one change of the committed config."""
    return {
        COMMITTED: lambda config: None,
        "batching off": lambda config: config.ClearField("dynamic_batching"),
        **{f"delay {delay} µs": with_delay(delay) for delay in arguments.delays},
        **{f"{count} instances": with_instances(count) for count in arguments.instances},
        **{f"{count} threads": with_threads(count) for count in arguments.threads},
    }


def with_delay(microseconds: int) -> Change:
    """How long a request may wait for others to be batched with."""

    def change(config: ModelConfig) -> None:
        config.dynamic_batching.max_queue_delay_microseconds = microseconds

    return change


def with_instances(count: int) -> Change:
    """So many copies of the model compute at the same time, per device on a GPU."""

    def change(config: ModelConfig) -> None:
        for group in config.instance_group:
            group.count = count

    return change


def with_threads(count: int) -> Change:
    """So many CPU threads share one forward."""

    def change(config: ModelConfig) -> None:
        config.parameters["INTRA_OP_THREAD_COUNT"].string_value = str(count)

    return change


def write_settings(model: str, changes: dict[str, Change], repository: Path, folder: Path) -> dict[str, str]:
    """A repository of copies of a model, one for each setting; setting by copy.

    Raises:
        RepositoryError: the model does not exist or has no version.
    """
    return {
        write_copy(model, folder, repository, f"{model}_{number}", change): name
        for number, (name, change) in enumerate(changes.items())
    }


def bench(model: str, arguments: argparse.Namespace) -> Figures:
    """Serve all copies of a model and measure each in turn, several times."""
    seen: dict[str, dict[int, list[tuple[float, float]]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        copies = write_settings(model, settings(arguments), arguments.repository.resolve(), folder)
        hardware = "gpu" if use_gpu(arguments.hardware) else "cpu"
        with Server(Options(folder, hardware=hardware, ready_timeout=300)) as server:
            url = server.address(arguments.protocol)
            steps = [
                (copy, level) for _ in range(arguments.rounds) for copy in copies for level in arguments.concurrency
            ]
            for copy, level in progress(steps, model):
                one = measure(copy, url, arguments.protocol, level, arguments.seconds)
                seen.setdefault(copies[copy], {}).setdefault(level, []).append((one.rate, one.p99_ms))
                server.check()
    return {name: {level: middle(rounds) for level, rounds in levels.items()} for name, levels in seen.items()}


def middle(rounds: list[tuple[float, float]]) -> tuple[float, float]:
    """The median rate and the median p99 of several rounds."""
    return median(rate for rate, _ in rounds), median(p99 for _, p99 in rounds)


def table(figures: Figures) -> list[list[str]]:
    """A header and a row for each setting: rate, its ratio to the committed config's, p99; for each concurrency."""
    levels = list(figures[COMMITTED])
    header = ["setting", *(title for level in levels for title in (f"infer/s at {level}", "ratio", "p99 ms"))]
    rows = []
    for name, row in figures.items():
        cells = [(row[level][0], row[level][0] / figures[COMMITTED][level][0], row[level][1]) for level in levels]
        rows.append(
            [name, *(text for rate, ratio, p99 in cells for text in (f"{rate:,.0f}", f"{ratio:.2f}", f"{p99:.1f}"))]
        )
    return [header, *rows]


def plot(figures: Figures) -> "Figure":
    """Rate of each setting, as bars grouped by concurrency."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    axes = figure.subplots()
    levels = list(figures[COMMITTED])
    width = 0.8 / len(figures)
    for number, (name, row) in enumerate(figures.items()):
        places = [group + number * width for group in range(len(levels))]
        axes.bar(places, [row[level][0] for level in levels], width, label=name)
    axes.set_xticks(
        [group + 0.4 - width / 2 for group in range(len(levels))], [f"concurrency {level}" for level in levels]
    )
    axes.set_ylabel("inferences per second")
    axes.legend(fontsize=8)
    axes.grid(axis="y", alpha=0.3)
    return figure


def show(model: str, figures: Figures, arguments: argparse.Namespace) -> None:
    """Print the table and write the page."""
    rows = table(figures)
    setting = f"{arguments.protocol}, one inference a request, medians of {arguments.rounds} interleaved rounds"
    notes = "ratio: to the committed config at the same concurrency. Delays, instances and threads change nothing else."
    path = arguments.output / f"{model}.html"
    page.write(path, f"{model}: what parallelism pays", setting, plot(figures), rows, notes, frozenset({COMMITTED}))
    print(f"\n{model}: {setting}\n{text_table(rows)}")
    print(f"Page: {path}", file=sys.stderr)


def main() -> int:
    """Entry point."""
    arguments = parser().parse_args()
    results = {}
    try:
        for model in arguments.models or default_models():
            results[model] = bench(model, arguments)
            show(model, results[model], arguments)
    except (ServerError, RepositoryError, PerfAnalyzerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    document = {
        model: {
            name: {str(level): {"rps": round(rate, 1), "p99_ms": p99} for level, (rate, p99) in row.items()}
            for name, row in figures.items()
        }
        for model, figures in results.items()
    }
    print(json.dumps(document, separators=(",", ":"), ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
