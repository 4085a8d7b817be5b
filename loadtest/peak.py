"""Find the highest rate that a model sustains under an objective.

Each trial is an open loop with Poisson arrivals at the median of the current belief (`loadtest.analysis.peak_search`).
A rate is sustained when its trial meets the objective and the server keeps up. Trials in which the generator was the
bottleneck are ignored. The report goes to build/loadtest; the last line of stdout is one JSON document. The exit code
is 0 when the interval is within --precision, 1 when the budget ran out before or no rate was sustained, 2 when the
search could not be run, 3 when the generator cannot send as much as the server takes.

    python -m loadtest.peak mnist_mlp --slo 'p99<20ms' --protocol grpc --budget 120
"""

import sys
from functools import partial
from pathlib import Path

from clients.client import Client
from clients.command import command, command_parser, options_from, print_json, say
from clients.connection import add_connection_arguments
from clients.generation import is_language_model
from clients.output import try_folder
from loadtest import slo
from loadtest.analysis.highest_rate import find_peak
from loadtest.analysis.measurement import measure, prompt_setting, setting_of
from loadtest.options import REPORTS, GeneratorOptions, add_generator_arguments
from loadtest.prompts import STREAMS, PromptOptions, add_prompt_arguments, stream_connection
from loadtest.report.page import publish
from loadtest.report.peak_lines import add_search_arguments, peak_line, search_effort, tell_trial
from loadtest.report.peak_report import page_of


@command()
def main() -> int:
    """Search for the peak."""
    parser = command_parser("loadtest.peak", __doc__)
    parser.add_argument("model", metavar="MODEL")
    add_search_arguments(parser)
    parser.add_argument("--report", type=Path, default=REPORTS, help="folder of the report (default: %(default)s)")
    add_prompt_arguments(parser)
    add_generator_arguments(parser)
    add_connection_arguments(parser, retries=None, protocols=STREAMS)
    arguments = parser.parse_args()
    try_folder(arguments.report, "--report")
    model, protocol, options = arguments.model, arguments.protocol, options_from(arguments, GeneratorOptions)
    with Client(stream_connection(arguments)) as client:
        has_tokens = protocol == "openai" or is_language_model(client.contract(model))
        objectives = slo.parse(arguments.slo, has_tokens)
        if has_tokens:
            setting = prompt_setting(client, model, protocol, options, options_from(arguments, PromptOptions))
        else:
            setting = setting_of(client, model, options)
        trial = partial(measure, client, setting, objectives=objectives)
        peak = find_peak(trial, objectives, search_effort(arguments), options.seed, tell_trial)
    document = {"model": model, "protocol": protocol, "slo": arguments.slo, **peak.document()}
    print(peak_line(document))
    print(*document["bound"], sep="\n")
    print_json(document)
    page = page_of(document, objectives, peak.trials)
    say(f"Report: {publish(page, document, arguments.report, f'{model}-{protocol}-peak')}")
    return peak.exit_code


if __name__ == "__main__":
    sys.exit(main())
