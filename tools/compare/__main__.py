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

from clients.command import command, command_parser, duration, positive, print_json, say, text_table
from clients.connection import PROTOCOLS
from clients.output import try_folder
from loadtest.report import charts, page
from loadtest.report.axes import Axis
from loadtest.report.charts import Point
from loadtest.report.page import Page, Section
from tools import recipes
from tools.compare import language
from tools.compare.measurement import Effort, Member, measure_family
from tools.repository import REPOSITORY, ROOT
from tools.serve.hardware import HARDWARE

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


def write(members: Sequence[Member], best: Sequence[str], asked: str, folder: Path) -> Path:
    """Write <root>.html into a folder; returns its path."""
    root = members[0].name
    points = [
        Point(
            *(one.name, _series(one.name, best), one.rate, one.accuracy),
            y_span=(one.low, one.high),
            details={"p50": f"{one.latency_ms:.2f} ms", "file": f"{one.file_bytes / 1000:,.0f} KB"},
        )
        for one in sorted(members, key=lambda one: one.name not in best)
    ]
    axes = Axis("inferences per second", zero=False), Axis("accuracy", zero=False, spec=".2%")
    finest, fastest = best[0], best[-1]
    found = f"Most accurate: {finest}. Fastest of those that no other one beats in both: {fastest}."
    chart = charts.front("accuracy of each member by its inferences per second", points, axes, best, is_named=True)
    note = "Accuracy of the test set with its 95 % interval, and inferences per second through the server."
    return _write(
        folder,
        root,
        (asked, found),
        Section("Accuracy and throughput", chart, notes=(note,)),
        _table(members),
        best,
        _NOTES,
    )


def _write(
    folder: Path,
    root: str,
    lines: tuple[str, str],
    drawn: Section,
    table: Sequence[Sequence[str]],
    best: Sequence[str],
    notes: str,
) -> Path:
    sections = [drawn, Section("Members", table=table, marked=frozenset(best), notes=(notes,))]
    return page.write(Page(f"{root} and its variants", *lines, sections), folder / f"{root}.html")


def _series(name: str, best: Sequence[str]) -> str:
    return "on the front" if name in best else "others"


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


def _compare_languages(arguments: argparse.Namespace) -> int:
    how = (arguments.rounds, arguments.concurrency, arguments.hardware, arguments.repository.resolve())
    members, source = language.measure_languages(arguments.model, *how)
    best, rows = front({one.name: (-one.perplexity, one.rate) for one in members}), language.table(members)
    print(f"{text_table(rows)}\nPareto front of perplexity and tokens per second: {', '.join(best)}")
    print_json({"front": best, "source": source, "models": {one.name: asdict(one) for one in members}})
    points = [
        Point(one.name, _series(one.name, best), one.rate, one.perplexity, details={"weights": one.precision})
        for one in members
    ]
    axes = Axis("tokens per second", zero=False), Axis("perplexity", zero=False)
    chart = charts.front("perplexity of each member by its tokens per second", points, axes, best, is_named=True)
    asked = f"{source}; 1 and {arguments.concurrency} streams, {arguments.rounds} rounds"
    found = f"Lowest perplexity: {best[0]}. Fastest of those that no other one beats in both: {best[-1]}."
    note = f"Perplexity, lower is better, and tokens per second of {arguments.concurrency} streams."
    lines, drawn = (asked, found), Section("Perplexity and throughput", chart, notes=(note,))
    path = _write(arguments.output, members[0].name, lines, drawn, rows, best, language.NOTES)
    say(f"Page: {path}")
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
