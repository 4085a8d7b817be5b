"""The options of a tuning: flags on one side, a typed value on the other."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from clients.command import duration, options_from, positive_float
from clients.connection import Connection, add_connection_arguments, connection_from
from loadtest.options import GeneratorOptions, add_generator_arguments
from tools.repository import REPOSITORY, ROOT
from tools.serve.hardware import HARDWARE
from tools.tune.goal import OBJECTIVES

Options = TypeVar("Options", bound="TuneOptions")


@dataclass(frozen=True, kw_only=True)
class TuneOptions:
    """What a tuning is to achieve, and with what means; the options' help says more."""

    slo: str
    url: str | None  # HOST:PORT of a running server in explicit mode; None to start an embedded one
    disturb: bool = False  # a running server that others use
    connection: Connection  # to the running server; its protocol and timeout apply to an embedded one too
    hardware: str
    repository: Path
    generator: GeneratorOptions
    trial_s: float  # of the shortest trial
    output: Path
    objective: str = "throughput"
    rate: float | None = None
    budget_s: float = 300.0
    keep_max_batch_size: bool = False
    name: str | None = None  # of the config to write; None for "cpu" or "gpu"
    dry_run: bool = False
    fresh: bool = False


def add_tune_arguments(parser: argparse.ArgumentParser) -> None:
    """Add all options that `tune_options` reads."""
    parser.add_argument("--objective", choices=OBJECTIVES, default=TuneOptions.objective, help="what is best")
    parser.add_argument("--rate", type=positive_float, metavar="N", help="requests per second, for latency and cost")
    parser.add_argument("--budget", dest="budget_s", type=duration, default="5m", metavar="TIME", help="of it all")
    parser.add_argument("--keep-max-batch-size", action="store_true", help="refuse no request that is accepted now")
    parser.add_argument("--name", metavar="HARDWARE", help="of configs/<HARDWARE>.pbtxt (default: cpu or gpu)")
    parser.add_argument("--dry-run", action="store_true", help="write no config")
    parser.add_argument("--fresh", action="store_true", help="ignore what an earlier run measured")
    add_measuring_arguments(parser, ROOT / "build" / "tune")


def add_measuring_arguments(parser: argparse.ArgumentParser, output: Path) -> None:
    """Add the options of `tune_options` that say what to measure and how; those without a default."""
    parser.add_argument("--slo", required=True, help="e.g. 'p99<20ms,errors<0.1%%'; one must limit a percentile")
    trial = "of the shortest trial"
    parser.add_argument("--trial", dest="trial_s", type=duration, default="2s", metavar="TIME", help=trial)
    parser.add_argument("--output", type=Path, default=output, help="folder of pages and records")
    parser.add_argument("--hardware", choices=HARDWARE, default="auto", help="as for tools.serve")
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help="model repository")
    text = "tune at --url even while others use the server; they get errors at each reload"
    parser.add_argument("--disturb", action="store_true", help=text)
    add_generator_arguments(parser)
    add_connection_arguments(parser, retries=None)


def tune_options(arguments: argparse.Namespace, kind: type[Options]) -> Options:
    """Read the options into their dataclass."""
    generator = options_from(arguments, GeneratorOptions)
    return options_from(arguments, kind, connection=connection_from(arguments), generator=generator)
