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
from dataclasses import fields, replace

from clients.client import Client
from clients.command import command, command_parser, options_from
from clients.connection import add_connection_arguments, connection_from
from clients.output import try_folder
from loadtest import slo
from loadtest.analysis.measurement import measure, setting_of
from loadtest.analysis.rejects import metrics_address
from loadtest.analysis.scenarios import SCENARIOS, apply_scenario, check_scenario, scenario_figure
from loadtest.load import LoadOptions
from loadtest.options import GeneratorOptions, add_generator_arguments, add_load_arguments
from loadtest.report.run_report import conclude


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("loadtest.run", __doc__)
    parser.add_argument("model", metavar="MODEL")
    add_load_arguments(parser, "'p99<20ms,errors<0.1%%'").add_argument(
        "--scenario",
        choices=SCENARIOS,
        help="a preset after MLPerf Inference and its figure: single-stream (one caller; p90), multi-stream (one "
        "caller, 8 inferences per request; p99), server (Poisson arrivals at --rate; whether it meets --slo, "
        "loadtest.peak searches for the rate), offline (full batches; inferences per second)",
    )
    text = "Triton's metrics endpoint, to count what it rejected (default: $TRITON_METRICS_URL, else not counted)"
    parser.add_argument("--metrics-url", metavar="HOST:PORT", help=text)
    parser.add_argument("--explain", action="store_true", help="print what bounds the run, and what should help")
    add_generator_arguments(parser)
    add_connection_arguments(parser, retries=None)
    return parser


def parse(words: Sequence[str] | None = None) -> tuple[argparse.Namespace, LoadOptions]:
    """Parse a command line, by default this process's; also gives the load that it asks for."""
    # None where an option was not given: a scenario may set it.
    unset = dict.fromkeys(field.name for field in fields(LoadOptions))
    arguments = _parser().parse_args(words, argparse.Namespace(**unset))
    return arguments, options_from(arguments, LoadOptions)


@command()
def main() -> int:
    """Run one load test."""
    arguments, chosen = parse()
    model, scenario = arguments.model, arguments.scenario
    try_folder(arguments.report, "--report")
    objectives, metrics = slo.parse(arguments.slo), metrics_address(arguments.metrics_url)
    if scenario:
        check_scenario(scenario, model, chosen, objectives)
    with Client(connection_from(arguments)) as client:
        chosen = apply_scenario(scenario, model, chosen, client) if scenario else chosen
        options = replace(options_from(arguments, GeneratorOptions), client_batch=chosen.client_batch or 1)
        result = measure(client, setting_of(client, model, options), chosen.load(options.seed), objectives, metrics)
    result = replace(result, scenario=scenario_figure(scenario, result)) if scenario else result
    return conclude(result, arguments.report, arguments.explain)


if __name__ == "__main__":
    sys.exit(main())
