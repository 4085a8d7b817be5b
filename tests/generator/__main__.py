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

import sys
import tempfile
from pathlib import Path

from clients.command import command, print_json, say
from tests.generator import agreement
from tests.generator.agreement import Round, Row
from tests.generator.generators import Load, ours, sufficient_window, theirs, write_inputs
from tests.generator.options import Options, parse_options
from tests.generator.report import report
from tools.bench.copies import serve_copies
from tools.bench.options import trained_models
from tools.bench.perf_analyzer import total_seconds
from tools.serve.tritonserver import Server


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


@command()
def main() -> int:
    """Compare the generators at each model."""
    options = parse_options(__doc__)
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
