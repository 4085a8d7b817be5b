"""Benchmarks through the real server.

    python -m tools.bench backend     # what serving costs: throughput beside the in-process TorchScript limit
    python -m tools.bench door        # what the front door costs: directly, and through HAProxy
    python -m tools.bench language    # tokens per second through Triton beside the engine in process
    python -m tools.bench parallel    # what dynamic batching, queue delay, instances and threads gain on this host
    python -m tools.bench peers       # the same file behind mosec, and behind FastAPI with uvicorn
    python -m tools.bench pipelines   # decode and scale images on the client, or on the server?
    python -m tools.bench tune mnist_mlp --slo 'p99<20ms'   # the tuner's choice beside the best of an exhaustive grid

`python -m tools.bench NAME --help` describes each. The last line of stdout is one compact JSON document, which
names the backend that serves TorchScript unless a benchmark compares them. Exit code: 0 done, 2 could not be run.
"""

import argparse
import sys
from collections.abc import Mapping
from typing import Any, Protocol

from clients.command import command, command_parser, print_json
from tools.bench import backend, door, language, parallel, peers, pipelines, tune
from tools.serve.native import choose_backend


class _Bench(Protocol):
    """What each of the modules has."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, options: Any) -> dict[str, Any]: ...


_BENCHES: Mapping[str, _Bench] = {
    "backend": backend,
    "door": door,
    "language": language,
    "parallel": parallel,
    "peers": peers,
    "pipelines": pipelines,
    "tune": tune,
}


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("tools.bench", __doc__)
    names = parser.add_subparsers(dest="bench", metavar="NAME", required=True)
    for name, bench in _BENCHES.items():
        summary = (bench.__doc__ or "").split("\n")[0]
        raw = argparse.RawDescriptionHelpFormatter
        bench.add_arguments(names.add_parser(name, help=summary, description=bench.__doc__, formatter_class=raw))
    return parser


@command()
def main() -> int:
    """Run one benchmark."""
    arguments = _parser().parse_args()
    figures = _BENCHES[arguments.bench].run(arguments.read(arguments))
    print_json({"pytorch_backend": choose_backend("auto").name, **figures})
    return 0


if __name__ == "__main__":
    sys.exit(main())
