"""Load-test one model with requests on a schedule (open loop) or by waiting callers (closed loop).

Prints what the client saw beside what the server counted, and writes a report (HTML, Markdown, JSON) to build/loadtest;
the last line of stdout is one JSON document. The exit code is 1 when an objective of --slo is missed or nothing was
answered, 2 when the test could not be run, 3 when the generator was the bottleneck, so that its figures would say
nothing of the server and are withheld.

    python -m loadtest.run mnist_mlp --rate 500 --arrivals poisson --duration 30 --protocol grpc --slo 'p99<20ms'
    python -m loadtest.run mnist_mlp --concurrency 8
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from clients.client import Client
from clients.command import command, command_parser, print_json, say
from clients.connection import Connection, add_connection_arguments, connection_from
from loadtest import slo
from loadtest.analysis.audit import INVALID
from loadtest.analysis.measurement import measure, setting_of
from loadtest.analysis.rejects import metrics_address
from loadtest.analysis.result import RunResult
from loadtest.analysis.scenarios import SCENARIOS, apply_scenario, check_scenario, scenario_figure
from loadtest.arrivals import SCHEDULES
from loadtest.load import DEFAULT_ARRIVALS, DEFAULT_DURATION_S, LoadOptions
from loadtest.options import REPORTS, GeneratorOptions, add_generator_arguments, generator_options
from loadtest.report.run_report import text, write

# In the report's file, but not in the last line of stdout.
_BULKY = ("curve", "course", "histogram")


@dataclass(frozen=True)
class Options:
    """One command line; `metrics` is the address of Triton's metrics endpoint, where it is to be read."""

    model: str
    load: LoadOptions
    generator: GeneratorOptions
    connection: Connection
    objectives: list[slo.Objective]
    scenario: str | None
    metrics: str | None
    report: Path
    explain: bool


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("loadtest.run", __doc__)
    parser.add_argument("model", metavar="MODEL")
    _add_load_arguments(parser)
    parser.add_argument("--report", type=Path, default=REPORTS, help="folder of the reports (default: %(default)s)")
    parser.add_argument(
        "--metrics-url",
        metavar="HOST:PORT",
        help="Triton's metrics endpoint, to count what it rejected (default: $TRITON_METRICS_URL, else not counted)",
    )
    parser.add_argument("--explain", action="store_true", help="print what bounds the run, and what should help")
    add_generator_arguments(parser)
    add_connection_arguments(parser, retries=None)
    return parser


def _add_load_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("load")
    group.add_argument("--rate", type=float, metavar="N", help="requests per second (open loop)")
    group.add_argument("--arrivals", help=f"{', '.join(SCHEDULES)}, or a file of times (default: {DEFAULT_ARRIVALS})")
    group.add_argument("--concurrency", type=int, metavar="N", help="callers who wait for their answers (closed loop)")
    group.add_argument(
        "--duration", type=float, metavar="S", help=f"seconds (default: {DEFAULT_DURATION_S:g}; of a trace, its own)"
    )
    group.add_argument("--slo", default="", help="e.g. 'p99<20ms,errors<0.1%%'; the exit code is 1 when missed")
    group.add_argument(
        "--scenario",
        choices=SCENARIOS,
        help="a preset after MLPerf Inference and its figure: single-stream (one caller; p90), multi-stream (one "
        "caller, 8 inferences per request; p99), server (Poisson arrivals at --rate; whether it meets --slo, "
        "loadtest.peak searches for the rate), offline (full batches; inferences per second)",
    )


def options_from(words: Sequence[str] | None = None) -> Options:
    """Parse a command line, by default this process's.

    Raises:
        InvalidInput: an option cannot be used, or contradicts the scenario.
        SloError: an objective cannot be parsed.
    """
    # Options of the load are None where they were not given: a scenario may set them.
    names = [field.name for field in fields(LoadOptions)]
    arguments = _parser().parse_args(words, argparse.Namespace(**dict.fromkeys(names)))
    options = Options(
        model=arguments.model,
        load=LoadOptions(**{name: getattr(arguments, name) for name in names}),
        generator=generator_options(arguments),
        connection=connection_from(arguments),
        objectives=slo.parse(arguments.slo),
        scenario=arguments.scenario,
        metrics=metrics_address(arguments.metrics_url),
        report=arguments.report,
        explain=arguments.explain,
    )
    if options.scenario:
        check_scenario(options.scenario, options.model, options.load, options.objectives)
    return options


def _run(options: Options) -> RunResult:
    with Client(options.connection) as client:
        chosen = options.load
        if options.scenario:
            chosen = apply_scenario(options.scenario, options.model, chosen, client)
        load = chosen.load(options.generator.seed)
        generator = replace(options.generator, client_batch=chosen.client_batch or 1)
        setting = setting_of(client, options.model, generator)
        result = measure(client, setting, load, options.objectives, options.metrics)
    return replace(result, scenario=scenario_figure(options.scenario, result)) if options.scenario else result


@command()
def main() -> int:
    """Run one load test."""
    options = options_from()
    result = _run(options)
    print(text(result))
    say(f"Report: {write(result, options.report)}")
    if options.explain:
        print(*result.explanation, sep="\n")
    print_json({key: value for key, value in result.document().items() if key not in _BULKY})
    return int(not result.passed) if result.valid else INVALID


if __name__ == "__main__":
    sys.exit(main())
