"""How `loadtest.run` compares with NVIDIA's perf_analyzer at the same closed loop, against the same server.

    python -m tools.bench_generator
    python -m tools.bench_generator mnist_mlp resnet18_int8 --concurrency 1 4 8 --rounds 4

One run starts the embedded server and, for each model, protocol and concurrency, lets the two generators measure in
turn (ours, theirs, theirs, ours, …), in windows of the same length, with random inputs, one a request. Whatever slows
the machine down slows both. The table gives what each saw and what it cost in processor time; ratios are those of one
round. Both latencies count from before the send until after the receipt (`tools.measuring.generators` says what of
the client's own work falls in between). `loadtest.run` cuts its first half second; perf_analyzer, which has no
warm-up, starts on a server that is warm. Its processor time is that of its whole run by all its requests, that of
`loadtest.run` what its sending process used while it sent.

On a small host the two cannot agree for a small model: a generator takes processor time from the server that shares
its cores, so the cheaper one sees lower latencies. Judge agreement where the server's own work dominates: name a model
that takes long. The page with the plot goes to build/generator/<model>.html; the last line of stdout is one compact
JSON document.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from clients.command import text_table
from clients.errors import ClientError
from loadtest.report import page
from tests.generator import agreement
from tests.generator.agreement import Round, Row
from tests.generator.generators import GeneratorError, Load, ours, theirs, window, write_inputs
from tools.bench.backend import PROTOCOLS, default_models
from tools.bench.copies import write_copies
from tools.bench.perf_analyzer import PerfAnalyzerError, lasting
from tools.repository import REPOSITORY, ROOT, RepositoryError
from tools.serve.hardware import HARDWARE
from tools.serve.server_error import ServerError
from tools.serve.tritonserver import Options, Server

PAGES = ROOT / "build" / "generator"


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench_generator", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help="(default: the trained ones of `make build`)")
    parser.add_argument("--concurrency", nargs="+", type=int, default=[1, 4, 8], help="(default: 1 4 8)")
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=PROTOCOLS, help="(default: both)")
    parser.add_argument("--rounds", type=int, default=4, help="of one run of each generator (default: %(default)s)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=1.0,
        help="of each of three windows, as perf_analyzer is asked; more for a slow model's p99 (default: %(default)s)",
    )
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help="(default: %(default)s)")
    parser.add_argument("--output", type=Path, default=PAGES, help="folder of the pages (default: %(default)s)")
    parser.add_argument("--hardware", choices=HARDWARE, default="auto", help="as for tools.serve (default: auto)")
    return parser


def bench(model: str, server: Server, inputs: Path, arguments: argparse.Namespace) -> list[Row]:
    """All measurements of one model."""
    rows = []
    for protocol in arguments.protocols:
        for concurrency in arguments.concurrency:
            seconds = window(model, server, protocol, concurrency, arguments.seconds)
            load = Load(model, protocol, concurrency, seconds, inputs)
            rounds = [measure(load, server, number) for number in range(arguments.rounds)]
            rows.append(agreement.row(protocol, concurrency, lasting(seconds), rounds))
    return rows


def measure(load: Load, server: Server, number: int) -> Round:
    """One round; every other one begins with theirs, so that neither is always the one that comes after."""
    print(f"{load.model} {load.protocol} concurrency {load.concurrency} round {number + 1} …", file=sys.stderr)
    if number % 2:
        second = theirs(load, server)
        return ours(load, server), second
    return ours(load, server), theirs(load, server)


def show(model: str, rows: list[Row], arguments: argparse.Namespace) -> None:
    """Print the table and write the page."""
    table = agreement.table(rows)
    windows = sorted({round(one.seconds, 1) for one in rows})
    lengths = " to ".join(f"{seconds:g}" for seconds in dict.fromkeys((windows[0], windows[-1])))
    setting = f"closed loop, one inference a request, {arguments.rounds} interleaved rounds of {lengths} s each"
    path = arguments.output / f"{model}.html"
    notes = " ".join([agreement.NOTES, *(f"{said}." for said in agreement.warnings(rows))])
    page.write(path, f"{model}: two load generators", setting, agreement.plot(rows), table, notes)
    print("\n".join([f"\n{model}: {setting}", text_table(table), *agreement.warnings(rows)]))
    print(f"Page: {path}", file=sys.stderr)


def bench_all(models: list[str], arguments: argparse.Namespace) -> dict[str, list[Row]]:
    """Serve copies of the models and measure each, showing its table as soon as it is there."""
    results = {}
    with tempfile.TemporaryDirectory() as scratch:
        # Copies, because other models would take memory and caches from those that are measured.
        copies = write_copies(models, Path(scratch) / "models", arguments.repository.resolve())
        inputs = {model: write_inputs(model, copies, Path(scratch) / "inputs" / model) for model in models}
        with Server(Options(copies, hardware=arguments.hardware, ready_timeout=300)) as server:
            for model in models:
                results[model] = bench(model, server, inputs[model], arguments)
                show(model, results[model], arguments)
    return results


def main() -> int:
    """Entry point."""
    command = parser()
    arguments = command.parse_args()
    if arguments.rounds < 1 or arguments.seconds <= 0 or min(arguments.concurrency) < 1:
        command.error("expected --rounds and --concurrency of at least 1 and --seconds above 0")
    try:
        results = bench_all(arguments.models or default_models(), arguments)
    except (ClientError, GeneratorError, PerfAnalyzerError, RepositoryError, ServerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    document = {model: agreement.document(rows) for model, rows in results.items()}
    print(json.dumps(document, separators=(",", ":")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
