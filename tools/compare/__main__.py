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
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from clients.command import command, command_parser, duration, positive, print_json, say, text_table
from clients.connection import PROTOCOLS
from clients.output import try_folder
from loadtest.report.page import write
from tools import recipes
from tools.compare import language
from tools.compare.measurement import Effort, measure_family
from tools.compare.page import family_page, language_page, table
from tools.repository import REPOSITORY, ROOT
from tools.serve.hardware import HARDWARE

_PAGES = ROOT / "build" / "compare"


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("tools.compare", __doc__)
    parser.add_argument("model", help="any member of the family")
    add = parser.add_argument
    add("--rounds", type=positive, default=Effort.rounds, help="through all members")
    add("--seconds", type=duration, default=Effort.seconds, help="of each of three windows")
    add("--concurrency", type=positive, default=Effort.concurrency, help="that saturates the server")
    add("--protocol", choices=PROTOCOLS, default=Effort.protocol, help="of the requests")
    add("--hardware", choices=HARDWARE, default="auto", help="as for tools.serve")
    add("--repository", type=Path, default=REPOSITORY, help="model repository")
    add("--output", type=Path, default=_PAGES, help="folder of the page")
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


def _compare_languages(arguments: argparse.Namespace) -> int:
    how = (arguments.rounds, arguments.concurrency, arguments.hardware, arguments.repository.resolve())
    members, source = language.measure_languages(arguments.model, *how)
    best = front({one.name: (-one.perplexity, one.rate) for one in members})
    print(f"{text_table(language.table(members))}\nPareto front of perplexity and tokens per second: {', '.join(best)}")
    print_json({"front": best, "source": source, "models": {one.name: asdict(one) for one in members}})
    asked = f"The family of {members[0].name}, {len(members)} models; {source}; 1 and {arguments.concurrency} streams, "
    asked += f"{arguments.rounds} rounds"
    page = language_page(members, best, asked, arguments.concurrency)
    say(f"Page: {write(page, arguments.output / f'{members[0].name}.html')}")
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
    print(f"{text_table(table(members))}\nPareto front of accuracy and throughput: {', '.join(best)}")
    print_json({"front": best, "data": data.title, "models": {member.name: asdict(member) for member in members}})
    asked = f"The family of {members[0].name}, {len(members)} models; {data.title}; {effort}"
    say(f"Page: {write(family_page(members, best, asked), arguments.output / f'{members[0].name}.html')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
