"""The best batching, instances and threads for a model, under an objective of latency, in minutes: `tools.tune MODEL`.

Half a minute of measurement teaches a digital twin of the server how long batches take and what else a request costs;
the twin plays the wanted arrivals against every choice; the few best are measured with an open loop, beside the
committed config. The best goes to `configs/<hardware>.pbtxt`, with the evidence as a comment; `config.pbtxt` is never
touched. A page with the throughput-latency front goes to build/tune/, the last line of stdout is one JSON document.

    python -m tools.tune mnist_mlp --slo 'p99<20ms'                                 # the highest rate within it
    python -m tools.tune mnist_mlp --slo 'p99<20ms' --objective latency --rate 2000 # the lowest latency at a rate
    python -m tools.tune mnist_mlp --slo 'p99<20ms' --url 127.0.0.1:8000            # a server in explicit mode

Ctrl-C loses nothing: the same command goes on, and --fresh begins again. Exit code: 0 when a choice keeps to the
objective, 1 when none does, 2 when it could not be tuned, 3 when the generator was the bottleneck.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

from clients.command import duration, say, text_table
from clients.connection import add_connection_arguments
from clients.errors import ClientError
from loadtest.analysis.audit import INVALID
from loadtest.generator.fleet import GeneratorError
from loadtest.options import add_generator_arguments
from loadtest.slo import SloError
from tools.repository import REPOSITORY, ROOT, RepositoryError, versions
from tools.serve.hardware import HARDWARE
from tools.serve.server_error import ServerError
from tools.tune.candidates import Candidate, TuningError, candidate_from, candidate_of
from tools.tune.evidence import write_config
from tools.tune.goal import OBJECTIVES, Goal, goal
from tools.tune.outcome import outcome, table, write_page
from tools.tune.prediction import Prediction
from tools.tune.record import Record, taken_up
from tools.tune.served import Served, served
from tools.tune.trials import Document, yardstick

PAGES = ROOT / "build" / "tune"
# Of the budget, what calibration may take.
CALIBRATION_SHARE = 0.6
SHORTLIST = 7


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="python -m tools.tune", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--objective", choices=OBJECTIVES, default="throughput", help="(default: %(default)s)")
    parser.add_argument("--rate", type=float, metavar="N", help="requests per second, for latency and cost")
    add_tuning_arguments(parser)
    return parser


def add_tuning_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of every command that tunes."""
    parser.add_argument("--slo", required=True, help="e.g. 'p99<20ms,errors<0.1%%'; one must limit a percentile")
    parser.add_argument("--budget", type=duration, default=300.0, metavar="TIME", help="30s, 5m, … (default: 5m)")
    parser.add_argument("--trial", type=float, default=2.0, metavar="S", help="seconds, at the least (default: 2)")
    parser.add_argument("--keep-max-batch-size", action="store_true", help="refuse no request that is taken now")
    parser.add_argument("--name", metavar="HARDWARE", help="of configs/<HARDWARE>.pbtxt (default: cpu, or gpu)")
    parser.add_argument("--dry-run", action="store_true", help="write no config")
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier run has measured")
    parser.add_argument("--hardware", choices=HARDWARE, default="auto", help="as for tools.serve (default: auto)")
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help="(default: %(default)s)")
    parser.add_argument("--output", type=Path, default=PAGES, help="folder of pages and records (default: %(default)s)")
    add_generator_arguments(parser)
    add_connection_arguments(parser, retries=None)


def tune(one: Served, arguments: argparse.Namespace, wanted: Goal) -> Document:
    """Calibrate, simulate, measure; returns the outcome."""
    from tools.tune.prediction import shortlist
    from tools.tune.proposals import proposals
    from tools.tune.race import Race, go

    began = time.monotonic()
    base = candidate_of(one.base)
    how = yardstick(one, arguments, list(wanted.objectives))
    record = taken_up(arguments.output / f"{one.model}.json", about(one, arguments), arguments.fresh)
    spent = record.seconds
    until = began + CALIBRATION_SHARE * arguments.budget - spent
    ranked, simulated = proposals(one, how, arguments, wanted, record, until, say)
    race = Race(one, how, wanted, record, began + arguments.budget - spent, say)
    go(race, shortlist(ranked, base, SHORTLIST), {each.candidate: each for each in ranked})
    record.seconds = spent + time.monotonic() - began
    record.save()
    return finished(one, arguments, wanted, base, record, ranked, simulated)


def about(one: Served, arguments: argparse.Namespace) -> Document:
    """With what a tuning is made; another one is not gone on with."""
    named = ("model", "slo", "objective", "rate", "protocol", "client_batch", "trial", "keep_max_batch_size", "url")
    return {
        **{name: getattr(arguments, name) for name in named},
        "version": max(versions(one.model, arguments.repository), default=None),
        "triton": one.client.server().get("version"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}{', GPU' if one.gpu else ''}",
        "base": candidate_of(one.base).document(),
    }


def finished(
    one: Served,
    arguments: argparse.Namespace,
    wanted: Goal,
    base: Candidate,
    record: Record,
    ranked: list[Prediction],
    simulated: int,
) -> Document:
    """Write the config and the page; returns the outcome."""
    result = outcome(record, wanted, base, {**record.about, "simulated": simulated})
    result["page"] = str(write_page(result, record, wanted, ranked, arguments.output))
    if result["best"] and not arguments.dry_run:
        result["config"] = write(one, result, arguments)
    return result


def write(one: Served, evidence: Document, arguments: argparse.Namespace) -> str:
    """Write a model's best choice as the config of this hardware; returns the path."""
    choice = candidate_from(evidence["best"]["candidate"])
    name = arguments.name or ("gpu" if one.gpu else "cpu")
    return str(write_config(one.model, name, choice, one.gpu, evidence, arguments.repository))


def main() -> int:
    """Entry point."""
    arguments = parser().parse_args()

    def run() -> Document:
        wanted = goal(arguments.slo, arguments.objective, arguments.rate)
        with served([arguments.model], arguments) as (one,):
            return tune(one, arguments, wanted)

    return carried_out(run, arguments, table)


def carried_out(
    run: Callable[[], Document], arguments: argparse.Namespace, rows: Callable[[Document], list[list[str]]]
) -> int:
    """Tune, say what came out, the last line as JSON; returns the exit code, as the module's docstring has them."""
    try:
        result = run()
    except (ClientError, SloError, GeneratorError, TuningError, RepositoryError, ServerError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from here")
        return 130
    print(text_table(rows(result)))
    print(summary(result))
    written = result.get("configs", [result["config"]] if "config" in result else [])
    say("\n".join([f"Page: {result['page']}", *(f"Config: {path}" for path in written)]))
    told = {key: value for key, value in result.items() if key != "base"}
    print(json.dumps(told, separators=(",", ":"), ensure_ascii=False))
    if result["best"]:
        return 0
    return INVALID if not any(one["valid_trials"] for one in result["measured"]) else 1


def summary(result: Document) -> str:
    """What came out, in a line."""
    # The label of a plan names its models.
    best, gain, model = result["best"], result["gain"], f"{result['model']}: " if "model" in result else ""
    if best is None:
        return f"{model}no choice keeps to {result['slo']} on this machine"
    times = f", {gain:.2f} times as good as committed" if gain else ""
    return f"{model}{best['label']}: {best['shown']}{times}, after {result['seconds']:.0f} s"


if __name__ == "__main__":
    sys.exit(main())
