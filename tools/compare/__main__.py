"""Compare a model with its variants through the real server: `python -m tools.compare cifar10_cnn`.

One run serves the whole family and measures, for each member: accuracy on the test set with its 95 % interval and
the paired difference from the root, size and parameters, memory that loading it takes, latency of single requests and
saturated throughput. Speed is measured with perf_analyzer in rounds that go through all members in turn, so that a
machine that slows down slows all of them. The page with the plot goes to build/compare/<model>.html; the last line of
stdout is one compact JSON document.

    python -m tools.compare mnist_mlp
    python -m tools.compare cifar10_cnn --rounds 5 --seconds 3
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from clients.command import command, command_parser, positive, positive_float, print_json, say
from clients.connection import PROTOCOLS
from tools.compare import comparison
from tools.compare.measurement import Effort, measure_family
from tools.repository import REPOSITORY, ROOT
from tools.serve.hardware import HARDWARE

_PAGES = ROOT / "build" / "compare"
_DEFAULT = "(default: %(default)s)"


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("tools.compare", __doc__)
    parser.add_argument("model", help="any member of the family")
    add = parser.add_argument
    add("--rounds", type=positive, default=Effort.rounds, help=f"through all members {_DEFAULT}")
    add("--seconds", type=positive_float, default=Effort.seconds, help=f"of each of three windows {_DEFAULT}")
    add("--concurrency", type=positive, default=Effort.concurrency, help=f"that saturates the server {_DEFAULT}")
    add("--protocol", choices=PROTOCOLS, default=Effort.protocol, help=_DEFAULT)
    add("--hardware", choices=HARDWARE, default="auto", help=f"as for tools.serve {_DEFAULT}")
    add("--repository", type=Path, default=REPOSITORY, help=_DEFAULT)
    add("--output", type=Path, default=_PAGES, help=f"folder of the page {_DEFAULT}")
    return parser


@command()
def main() -> int:
    """Measure a family, and write a table and a page."""
    arguments = _parser().parse_args()
    effort = Effort(arguments.rounds, arguments.seconds, arguments.concurrency, arguments.protocol)
    members, data = measure_family(arguments.model, effort, arguments.hardware, arguments.repository.resolve())
    best = comparison.front({member.name: (member.accuracy, member.rate) for member in members})
    page = comparison.write(members, best, f"{data.title}; {effort}", arguments.output)
    print(comparison.text(members, best))
    say(f"Page: {page}")
    models = {member.name: asdict(member) for member in members}
    print_json({"front": best, "data": data.title, "models": models})
    return 0


if __name__ == "__main__":
    sys.exit(main())
