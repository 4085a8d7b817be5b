"""The highest rate that a model sustains under an objective: `python -m loadtest.peak mnist_mlp --slo 'p99<20ms'`.

Each trial is an open loop with Poisson arrivals at the rate that halves what is believed so far (`loadtest.belief`). A
rate is sustained when its trial meets the objective and the server keeps up. Trials of which the generator was the
bottleneck say nothing of the server and shift no belief. The last line of stdout is one JSON document. The exit code is
0 when the interval is as narrow as wanted, 1 when the budget ran out before or no rate is sustained, 2 when the search
could not be run, 3 when the generator cannot send as much as the server takes.

    python -m loadtest.peak mnist_mlp --slo 'p99<20ms' --protocol grpc --budget 120
"""

import argparse
import json
import sys
import time
from typing import Any

from clients.client import Client
from clients.connection import add_connection_arguments, connection_from
from clients.errors import ClientError, InvalidInput
from loadtest import slo
from loadtest.belief import unknown
from loadtest.direct import Setting, add_setting_arguments, measure, setting_of
from loadtest.explain import words
from loadtest.generator.fleet import GeneratorError
from loadtest.load import Load, closed, scheduled
from loadtest.measurement import Document
from loadtest.peak_search import CALLERS, LONGEST_TRIAL_S, MOST_INVALID, SPAN, Search, Trial, trial_seconds
from loadtest.validity import INVALID


def search(trial: Trial, objectives: list[slo.Objective], arguments: argparse.Namespace) -> Search:
    """Try rates until the interval is narrow or the time is spent.

    Raises:
        InvalidInput: the model answers so slowly that no trial has enough requests for the percentile.
    """
    began = time.monotonic()
    highest = trial(closed(CALLERS, min(arguments.trial, 3.0)))["server_rps"]
    found = Search(unknown(highest * SPAN[0], highest * SPAN[1]))
    while not found.narrow(arguments.precision) and found.invalid < MOST_INVALID:
        rate = found.belief.at(0.5)
        seconds = trial_seconds(rate, arguments.trial, objectives)
        if seconds > LONGEST_TRIAL_S:
            raise InvalidInput(
                f"at {rate:.2g} requests per second a trial would take {seconds:,.0f} s; ask for p50 or p90"
            )
        if time.monotonic() - began + seconds > arguments.budget:
            break
        # Another schedule each time: the same bursts would make the same mistake again.
        found.note(trial(scheduled("poisson", rate, seconds, arguments.seed + len(found.tried) + found.invalid)))
        report(found)
    return found


def report(found: Search) -> None:
    """Progress on stderr: the early answer, which improves."""
    low, high = found.belief.interval()
    last = found.tried[-1] if found.tried and not found.invalid else None
    said = f"{last['rate']:,.0f}/s {'sustained' if last['sustained'] else 'not sustained'}" if last else "invalid trial"
    print(f"{said}; peak about {found.belief.at(0.5):,.0f}/s ({low:,.0f} to {high:,.0f})", file=sys.stderr, flush=True)


def document_of(found: Search, arguments: argparse.Namespace) -> Document:
    """The outcome; rates in requests per second, the interval holds the peak with 90 % probability."""
    low, high = found.belief.interval()
    kept = ("rate", "requests", "p50_ms", "p99_ms", "rps", "goodput_rps", "sustained")
    failed = [one for one in found.tried if not one["sustained"]]
    return {
        "model": arguments.model,
        "protocol": arguments.protocol,
        "slo": arguments.slo,
        "peak_rps": round(found.belief.at(0.5), 1),
        "low_rps": round(low, 1),
        "high_rps": round(high, 1),
        "narrow": found.narrow(arguments.precision),
        "at_least": bool(high >= found.belief.rates[-2]),
        "sustained_rps": max((round(one["rate"], 1) for one in found.tried if one["sustained"]), default=None),
        "generator_bound": found.invalid >= MOST_INVALID,
        "trials": [{name: one[name] for name in kept} for one in found.tried],
        "bound": words(min(failed, key=lambda one: one["rate"])["explanation"])[:1] if failed else [],
    }


def exit_code(document: Document) -> int:
    """See the module's docstring."""
    if document["generator_bound"]:
        return INVALID
    return 0 if document["narrow"] and document["sustained_rps"] is not None else 1


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.peak", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--slo", required=True, help="what a sustained rate must meet, e.g. 'p99<20ms,errors<0.1%%'")
    parser.add_argument("--trial", type=float, default=5.0, metavar="S", help="seconds of a trial (default: 5)")
    parser.add_argument("--budget", type=float, default=120.0, metavar="S", help="seconds in all (default: 120)")
    parser.add_argument("--precision", type=float, default=0.15, help="width of the interval, relative (default: 0.15)")
    add_setting_arguments(parser)
    add_connection_arguments(parser, retries=None)
    return parser


def trial_with(client: Client, setting: Setting, objectives: list[slo.Objective]) -> Trial:
    """A trial against the server; a closed loop's throughput is the server's own count, whatever the generator was."""

    def trial(load: Load) -> Document:
        document: dict[str, Any] = measure(client, setting, load, objectives)
        return {**document, "server_rps": max(1.0, document["server"]["requests"] / load.duration)}

    return trial


def main() -> int:
    """Entry point."""
    arguments = parser().parse_args()
    try:
        objectives = slo.parse(arguments.slo)
        with Client(connection_from(arguments)) as client:
            found = search(trial_with(client, setting_of(client, arguments), objectives), objectives, arguments)
    except (ClientError, slo.SloError, GeneratorError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    document = document_of(found, arguments)
    least = "at least " if document["at_least"] else ""
    print(
        f"{document['model']}: {least}{document['peak_rps']:,.0f} requests per second under {document['slo']}, "
        f"90 % interval {document['low_rps']:,.0f} to {document['high_rps']:,.0f}, {len(found.tried)} trials"
    )
    print(*document["bound"], sep="\n")
    print(json.dumps(document, separators=(",", ":")))
    return exit_code(document)


if __name__ == "__main__":
    sys.exit(main())
