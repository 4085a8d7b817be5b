"""What `python -m tests.generator` is told to compare."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from clients.command import command_parser
from clients.connection import PROTOCOLS
from tools.bench.options import DEFAULT, TRAINED, BenchOptions, add_bench_arguments
from tools.repository import ROOT


@dataclass(frozen=True, kw_only=True)
class Options(BenchOptions):
    """The options of benchmarks; seconds are those of one of three windows of perf_analyzer."""

    protocols: list[str]
    output: Path


def parse_options(about: str | None, words: list[str] | None = None) -> Options:
    """Read the command line, or its words; `about` is what its help says."""
    parser: argparse.ArgumentParser = command_parser("tests.generator", about)
    add_bench_arguments(
        parser, Options, TRAINED, [1, 4, 8], "each of three windows, more for a slow model's p99", 1.0, rounds=4
    )
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=PROTOCOLS, help="(default: all)")
    output = ROOT / "build" / "generator"
    parser.add_argument("--output", type=Path, default=output, help=f"folder of the pages {DEFAULT}")
    arguments = parser.parse_args(words)
    options: Options = arguments.read(arguments)
    return options
