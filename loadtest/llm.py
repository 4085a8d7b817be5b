"""Load-test a language model with prompts on a schedule (open loop) or by waiting callers (closed loop).

Answers are streamed over Triton's gRPC, its generate_stream (http) or OpenAI's completions (openai). Prompts are made
of words and have exactly --prompt-tokens tokens by the server's own count, or come from a JSON Lines file; every answer
has exactly as many tokens as were asked for. Objectives limit percentiles of the time to the first token (ttft_p95),
between tokens (itl_p99), between tokens on average over an answer (tpot_p90) and of the whole answer (p99), and further
tokens (tps) and requests (rps) per second and errors. Goodput is the share of requests within all limits.

The report (HTML, Markdown, JSON) goes to build/loadtest; the last line of stdout is one JSON document, which
loadtest.diff compares. Exit codes are those of loadtest.run.

    python -m loadtest.llm smollm2 --rate 2 --duration 60 --slo 'ttft_p95<500ms,itl_p99<60ms'
    python -m loadtest.llm smollm2 --concurrency 8 --prompt-tokens 512 --protocol openai --url 127.0.0.1:8080
"""

import argparse
import sys

from clients.client import Client
from clients.command import command, command_parser, options_from
from clients.connection import add_connection_arguments
from clients.output import try_folder
from loadtest import slo
from loadtest.analysis.measurement import measure, prompt_setting
from loadtest.load import LoadOptions
from loadtest.options import GeneratorOptions, add_generator_arguments, add_load_arguments
from loadtest.prompts import STREAMS, PromptOptions, add_prompt_arguments, stream_connection
from loadtest.report.run_report import conclude


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("loadtest.llm", __doc__)
    parser.add_argument("model", metavar="MODEL")
    add_load_arguments(parser, "'ttft_p95<500ms,itl_p99<60ms,errors<0.1%%'")
    add_prompt_arguments(parser)
    add_generator_arguments(parser, prompts=True)
    add_connection_arguments(parser, timeout_s=120.0, retries=None, protocols=STREAMS)
    parser.set_defaults(protocol="grpc")
    return parser


@command()
def main() -> int:
    """Run one load test."""
    arguments = _parser().parse_args()
    try_folder(arguments.report, "--report")
    objectives, options = slo.parse(arguments.slo, tokens=True), options_from(arguments, GeneratorOptions)
    load, asked = options_from(arguments, LoadOptions).load(options.seed), options_from(arguments, PromptOptions)
    with Client(stream_connection(arguments)) as client:
        setting = prompt_setting(client, arguments.model, arguments.protocol, options, asked)
        result = measure(client, setting, load, objectives)
    return conclude(result, arguments.report)


if __name__ == "__main__":
    sys.exit(main())
