"""Compare a model with its variants through the real server: `python -m tools.compare cifar10_cnn`.

One run serves the whole family and measures, for each member: accuracy on the test set with its 95 % interval and
the paired difference from the root, size and parameters, memory that loading it takes, latency of single requests and
saturated throughput. Speed is measured with perf_analyzer in rounds that go through all members in turn, so that a
machine that slows down slows all of them. The page with the plot goes to build/compare/<model>.html; the last line of
stdout is one compact JSON document.

For a language model, perplexity takes the place of accuracy, and speed is that of streamed tokens.

    python -m tools.compare mnist_mlp
    python -m tools.compare smollm2
    python -m tools.compare cifar10_cnn --rounds 5 --seconds 3
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from clients.command import command, command_parser, duration, positive, print_json, say, text_table
from clients.connection import PROTOCOLS
from clients.output import try_folder
from loadtest.report import page
from tools import recipes
from tools.compare import language
from tools.compare.measurement import Effort, Member, measure_family
from tools.repository import REPOSITORY, ROOT
from tools.serve.hardware import HARDWARE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PAGES = ROOT / "build" / "compare"
_DEFAULT = "(default: %(default)s)"
_NOTES = (
    "Bold: the Pareto front, models that no other one equals or beats in both accuracy and throughput. vs root: "
    "percentage points; p: how likely so large a difference is by chance (McNemar's exact test on the same images). "
    "Memory: what loading the model adds to the embedded server. Speed: through the server, medians of "
    "interleaved rounds."
)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("tools.compare", __doc__)
    parser.add_argument("model", help="any member of the family")
    add = parser.add_argument
    add("--rounds", type=positive, default=Effort.rounds, help=f"through all members {_DEFAULT}")
    add("--seconds", type=duration, default=Effort.seconds, help=f"of each of three windows {_DEFAULT}")
    add("--concurrency", type=positive, default=Effort.concurrency, help=f"that saturates the server {_DEFAULT}")
    add("--protocol", choices=PROTOCOLS, default=Effort.protocol, help=_DEFAULT)
    add("--hardware", choices=HARDWARE, default="auto", help=f"as for tools.serve {_DEFAULT}")
    add("--repository", type=Path, default=REPOSITORY, help=_DEFAULT)
    add("--output", type=Path, default=_PAGES, help=f"folder of the page {_DEFAULT}")
    return parser


def front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The Pareto front: names of the points that no other one equals or beats in both values, best first value first.

    Of equal points the first one stays.
    """
    highest, names = float("-inf"), []
    for name in sorted(points, key=lambda name: points[name], reverse=True):
        if points[name][1] > highest:
            names.append(name)
            highest = points[name][1]
    return names


def text(members: Sequence[Member], best: Sequence[str]) -> str:
    """The table for a terminal, with the front named."""
    return f"{text_table(_table(members))}\nPareto front of accuracy and throughput: {', '.join(best)}"


def write(members: Sequence[Member], best: Sequence[str], setting: str, folder: Path) -> Path:
    """Write <root>.html into a folder; returns its path."""
    root = members[0].name
    points = {one.name: (one.rate, one.accuracy, one.accuracy - one.low, one.high - one.accuracy) for one in members}
    labels = ("inferences per second through the server", "test accuracy, 95 % interval")
    title, figure = f"{root} and its variants", _plot(points, labels, best)
    return page.write(folder / f"{root}.html", title, setting, figure, _table(members), _NOTES, frozenset(best))


def _table(members: Sequence[Member]) -> list[list[str]]:
    root = members[0]
    rows = [
        {
            "model": member.name,
            "accuracy": f"{member.accuracy:.2%}",
            "95 % interval": f"{member.low:.1%} to {member.high:.1%}",
            "vs root": "" if member is root else f"{100 * member.difference:+.2f}",
            "p": "" if member is root else f"{member.p_value:.2g}",
            "file KB": f"{member.file_bytes / 1000:,.0f}",
            "parameters": f"{member.parameters:,}",
            "memory MB": f"{member.memory_bytes / 1e6:,.1f}",
            "p50 ms": f"{member.latency_ms:.2f}",
            "infer/s": f"{member.rate:,.0f}",
            "÷ root": f"{member.rate / root.rate:.2f}",
        }
        for member in members
    ]
    return [[*rows[0]], *([*row.values()] for row in rows)]


def _plot(
    points: Mapping[str, tuple[float, float, float, float]], labels: tuple[str, str], best: Sequence[str]
) -> "Figure":
    """Quality, with how far its interval goes down and up, over throughput; the front joined."""
    # Not pyplot, which keeps every figure and looks for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots()
    for name, (rate, quality, down, up) in points.items():
        colour = "#1f5fbf" if name in best else "#8a94a3"
        axes.errorbar(rate, quality, yerr=[[down], [up]], fmt="o", color=colour, capsize=3)
        axes.annotate(name, (rate, quality), xytext=(6, 5), textcoords="offset points", fontsize=8)
    joined = sorted(points[name][:2] for name in best)
    axes.plot(*zip(*joined, strict=True), color="#1f5fbf", linewidth=1)
    axes.set(xlabel=labels[0], ylabel=labels[1])
    axes.margins(x=0.15)
    axes.grid(alpha=0.3)
    return figure


def _compare_languages(arguments: argparse.Namespace) -> int:
    how = (arguments.rounds, arguments.concurrency, arguments.hardware, arguments.repository.resolve())
    members, source = language.measure_languages(arguments.model, *how)
    best, rows = front({one.name: (-one.perplexity, one.rate) for one in members}), language.table(members)
    print(f"{text_table(rows)}\nPareto front of perplexity and tokens per second: {', '.join(best)}")
    print_json({"front": best, "source": source, "models": {one.name: asdict(one) for one in members}})
    points = {one.name: (one.rate, one.perplexity, 0.0, 0.0) for one in members}
    labels = (f"tokens per second of {arguments.concurrency} streams", "perplexity, lower is better")
    title, file = f"{members[0].name} and its variants", arguments.output / f"{members[0].name}.html"
    setting = f"{source}; 1 and {arguments.concurrency} streams, {arguments.rounds} rounds"
    say(f"Page: {page.write(file, title, setting, _plot(points, labels, best), rows, language.NOTES, frozenset(best))}")
    return 0


@command()
def main() -> int:
    """Measure a family, and write a table and a page."""
    arguments = _parser().parse_args()
    try_folder(arguments.output, "--output")
    if isinstance(recipes.load(arguments.model), recipes.LanguageModel):
        return _compare_languages(arguments)
    effort = Effort(arguments.rounds, arguments.seconds, arguments.concurrency, arguments.protocol)
    members, data = measure_family(arguments.model, effort, arguments.hardware, arguments.repository.resolve())
    best = front({member.name: (member.accuracy, member.rate) for member in members})
    print(text(members, best))
    print_json({"front": best, "data": data.title, "models": {member.name: asdict(member) for member in members}})
    say(f"Page: {write(members, best, f'{data.title}; {effort}', arguments.output)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
