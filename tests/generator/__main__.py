"""Validate the generator of `loadtest.run`: the same closed loop as NVIDIA's perf_analyzer, against the same server.

    python -m tests.generator
    python -m tests.generator mnist_mlp resnet18_int8 --concurrency 1 4 8 --rounds 4

One run starts the embedded server and, for each model, protocol and concurrency, lets the two generators measure in
turn (ours, theirs, theirs, ours, …), in windows of equal length, with random inputs, one inference per request. A
slowdown of the machine affects both. The table shows what each saw and its processor time; ratios are those of one
round. Both latencies last from before the send until after the receipt (`tests.generator.generators` says which of the
client's own work falls in between). `loadtest.run` cuts its first half second; perf_analyzer, which has no warm-up,
starts on a warm server. Its processor time is that of its whole run, that of `loadtest.run` what its sending process
used while it sent.

On a small host the two cannot agree for a small model: a generator takes processor time from the server that shares
its cores, so the cheaper one sees lower latencies. Judge the agreement where the server's own work dominates: name a
slow model. The page with the chart goes to build/generator/<model>.html; the last line of stdout is one compact JSON
document.
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from clients.command import command, command_parser, print_json, say, text_table
from clients.connection import PROTOCOLS
from loadtest.report.page import Page, Section, write
from tests.generator import agreement
from tests.generator.agreement import Round, Row
from tests.generator.generators import Load, ours, sufficient_window, theirs, write_inputs
from tools.bench.copies import serve_copies
from tools.bench.options import DEFAULT, TRAINED, BenchOptions, add_bench_arguments, trained_models
from tools.bench.perf_analyzer import total_seconds
from tools.repository import ROOT
from tools.serve.tritonserver import Server


@dataclass(frozen=True, kw_only=True)
class Options(BenchOptions):
    """The options of benchmarks; seconds are those of one of three windows of perf_analyzer."""

    protocols: list[str]
    output: Path


def parse_options(words: list[str] | None = None) -> Options:
    """Read the command line, or its words."""
    parser: argparse.ArgumentParser = command_parser("tests.generator", __doc__)
    add_bench_arguments(
        parser, Options, TRAINED, [1, 4, 8], "each of three windows, more for a slow model's p99", 1.0, rounds=4
    )
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=PROTOCOLS, help="(default: all)")
    output = ROOT / "build" / "generator"
    parser.add_argument("--output", type=Path, default=output, help=f"folder of the pages {DEFAULT}")
    arguments = parser.parse_args(words)
    options: Options = arguments.read(arguments)
    return options


def compare(model: str, server: Server, inputs: Path, options: Options) -> list[Row]:
    """Measure one model with both generators."""
    rows = []
    for protocol in options.protocols:
        for concurrency in options.concurrency:
            seconds = sufficient_window(model, server, protocol, concurrency, options.seconds)
            load = Load(model, protocol, concurrency, seconds, inputs)
            rounds = [measure_round(load, server, number) for number in range(options.rounds)]
            rows.append(agreement.combine(protocol, concurrency, total_seconds(seconds), rounds))
    return rows


def measure_round(load: Load, server: Server, number: int) -> Round:
    """Measure with both; they begin in turn, so that neither is always the second."""
    say(f"{load.model} {load.protocol} concurrency {load.concurrency} round {number + 1} …")
    if number % 2:
        second = theirs(load, server)
        return ours(load, server), second
    return ours(load, server), theirs(load, server)


def report(model: str, rows: list[Row], options: Options) -> None:
    """Print the table and write the page."""
    table = agreement.table(rows)
    windows = sorted({round(row.seconds, 1) for row in rows})
    lengths = " to ".join(f"{seconds:g}" for seconds in dict.fromkeys((windows[0], windows[-1])))
    setting = f"closed loop, one inference per request, {options.rounds} interleaved rounds of {lengths} s each"
    path = options.output / f"{model}.html"
    sections = [
        Section("Latencies, ours divided by theirs", agreement.chart(rows)),
        Section("What each saw", table=table, notes=(agreement.NOTES,)),
    ]
    warnings = agreement.warnings(rows)
    write(Page(f"{model}: two load generators", setting, agreement.outcome(rows), sections, notes=warnings), path)
    print("\n".join([f"\n{model}: {setting}", text_table(table), *warnings]))
    say(f"Page: {path}")


@command()
def main() -> int:
    """Compare the generators at each model."""
    options = parse_options()
    models, document = options.models or trained_models(), {}
    with tempfile.TemporaryDirectory() as scratch, serve_copies(models, options.repository, options.hardware) as server:
        for model in models:
            inputs = write_inputs(model, options.repository, Path(scratch) / model)
            rows = compare(model, server, inputs, options)
            report(model, rows, options)
            document[model] = agreement.document(rows)
    print_json(document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
