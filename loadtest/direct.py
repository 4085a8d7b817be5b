"""One model, one run, no Locust: requests by a schedule (open loop) or by so many callers (closed loop).

`python -m loadtest.run MODEL …` comes here. In an open loop a request is due when the schedule says so, whether or not
the server has answered the ones before, and its latency counts from that moment: a stall costs all who come during it.
The exit code is 1 when an objective of --slo is missed or nothing was answered, 2 when the test could not be run, and
3 when the generator was the bottleneck, so that its figures would say nothing of the server and are not given.

    python -m loadtest.run mnist_mlp --rate 500 --arrivals poisson --duration 30 --protocol grpc --slo 'p99<20ms'
    python -m loadtest.run mnist_mlp --concurrency 8
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients.client import Client
from clients.connection import Connection, add_connection_arguments, connection_from
from clients.errors import ClientError, InvalidInput
from loadtest import scenarios, slo
from loadtest.audit import audit
from loadtest.direct_report import write
from loadtest.explain import documents, explain, words
from loadtest.generator.fleet import GeneratorError, Sent, send_all
from loadtest.generator.grpc_lane import grpc_target
from loadtest.generator.http_lane import http_target
from loadtest.generator.process import Order
from loadtest.load import Load, add_load_arguments, load_of
from loadtest.measurement import Document, course, figures, keeps_up, verdict, window
from loadtest.payloads import SAMPLES, Payload, payload
from loadtest.rejects import metrics_address
from loadtest.report.closed_loop import REPORTS
from loadtest.server_side import observe, server_side, stages
from loadtest.summary import text
from loadtest.validity import INVALID

# What the last line of stdout leaves to the file.
BULKY = ("curve", "course", "histogram")


@dataclass(frozen=True)
class Setting:
    """Against what and how: the same for every run of a search.

    Attributes:
        processes: sending processes.
        connections: the most that may be open.
        cut: seconds of warm-up to leave out; None lets the latencies decide.
        seed: of the schedule.
    """

    connection: Connection
    payload: Payload
    client_batch: int
    processes: int
    connections: int
    cut: float | None
    seed: int


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.run", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", metavar="MODEL")
    add_load_arguments(parser)
    parser.add_argument("--report", type=Path, default=REPORTS, help="folder of the reports (default: %(default)s)")
    parser.add_argument(
        "--metrics-url",
        metavar="HOST:PORT",
        help="Triton's metrics endpoint, to count what it rejected (default: $TRITON_METRICS_URL, else not counted)",
    )
    parser.add_argument("--explain", action="store_true", help="say what bounds the run, and what should help")
    add_setting_arguments(parser)
    add_connection_arguments(parser, retries=None)  # A second attempt would hide what the first one met.
    return parser


def add_setting_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that every command that sends load has."""
    group = parser.add_argument_group("generator")
    group.add_argument("--processes", type=int, default=1, metavar="N", help="sending processes (default: 1)")
    group.add_argument("--connections", type=int, default=512, metavar="N", help="open at most (default: 512)")
    group.add_argument("--warm-up", type=float, metavar="S", help="seconds to leave out (default: found by MSER-5)")
    group.add_argument("--client-batch", type=int, default=1, metavar="N", help="inferences per request (default: 1)")
    group.add_argument("--seed", type=int, default=0, help="of the schedule (default: %(default)s)")
    group.add_argument("--samples", type=Path, default=SAMPLES, help="folder of sample images (default: %(default)s)")


def setting_of(client: Client, arguments: argparse.Namespace) -> Setting:
    """Encode the requests, and gather what stays the same.

    Raises:
        InvalidInput: a number cannot be used.
        ClientError: the server has no such model.
    """
    for name in ("processes", "connections"):
        if getattr(arguments, name) < 1:
            raise InvalidInput(f"expected --{name} of at least 1, got {getattr(arguments, name)}")
    return Setting(
        client.connection,
        payload(client, arguments.model, arguments.samples, arguments.client_batch),
        arguments.client_batch,
        arguments.processes,
        max(arguments.connections, arguments.processes),
        arguments.warm_up,
        arguments.seed,
    )


def measure(
    client: Client, setting: Setting, load: Load, objectives: list[slo.Objective], metrics: str | None = None
) -> Document:
    """Send a load and say what came of it, on both sides; with `metrics`, Triton's endpoint, what it rejected too.

    Raises:
        InvalidInput: nothing would be left after the warm-up.
        ClientError: the server does not answer.
        GeneratorError: a sending process died.
    """
    if setting.cut is not None and not 0 <= setting.cut < load.duration:
        raise InvalidInput(
            f"expected --warm-up of 0 to less than the test's {load.duration:g} seconds, got {setting.cut:g}"
        )
    config = client.config(setting.payload.model)
    before = observe(client, metrics)
    sent = send_all(order_of(setting, load), setting.processes)
    ends = sent.records.due + sent.records.latency
    server = server_side(before, observe(client, metrics), config, float(ends.max()))
    server["version"] = client.server().get("version")
    document = document_of(setting, load, sent, objectives) | {"server": server}
    # The server counted the warm-up too.
    timed, lag = sent.records.timed(), 1000 * float(sent.records.lag.mean())
    mean = 1000 * float(timed.latency.mean()) if document["valid"] and len(timed) else None
    document["stages_us"] = stages(server, mean, lag)
    return {**document, "explanation": documents(explain(document))}


def order_of(setting: Setting, load: Load) -> Order:
    """What the sending processes are told."""
    to = (http_target if setting.connection.protocol == "http" else grpc_target)(setting.connection, setting.payload)
    return Order(to, load.due, load.callers, load.duration, setting.connections, setting.connection.timeout_s)


def document_of(setting: Setting, load: Load, sent: Sent, objectives: list[slo.Objective]) -> Document:
    """What the client saw of a run; latencies in milliseconds."""
    # Where the rate changes, so does the state: nothing of it is warm-up.
    changes = load.arrivals not in ("constant", "poisson", None)
    part = window(sent.records, load.duration, 0.0 if changes and setting.cut is None else setting.cut)
    found = audit(sent)
    asked: dict[str, Any] = {
        "model": setting.payload.model,
        "protocol": setting.connection.protocol,
        "url": setting.connection.url,
        "loop": "closed" if load.due is None else "open",
        "arrivals": load.arrivals,
        "rate": load.rate,
        "concurrency": load.callers or None,
        "duration_s": round(load.duration, 3),
        "seed": setting.seed,
        "client_batch": setting.client_batch,
        "payload": setting.payload.source,
        "host": {"system": platform.platform(), "python": platform.python_version(), "cpus": os.cpu_count()},
        "warm_up_s": round(part.start, 3),
        "started": sent.started,
    }
    seen = {**figures(sent.records, part, objectives), "course": course(sent.records, load.duration)}
    return {
        **asked,
        **verdict(seen, found, objectives),
        "steady": None if changes else part.steady and keeps_up(seen),
        "generator": found.document(),
    }


def exit_code(document: Document) -> int:
    """0 passed, 1 missed an objective, 3 not valid."""
    return INVALID if not document["valid"] else int(not document["passed"])


def given(words: Sequence[str]) -> argparse.Namespace:
    """The arguments as they were given: those that a scenario may set are None without their option."""
    unset = {name for scenario in scenarios.SCENARIOS.values() for name in scenario.options}
    return parser().parse_args(words, argparse.Namespace(**dict.fromkeys(unset)))


def run(words: Sequence[str]) -> tuple[argparse.Namespace, Document]:
    """Carry out a command line; its arguments and what came of it.

    Raises:
        ClientError, SloError, GeneratorError: the test could not be run.
    """
    arguments = parser().parse_args(words)
    objectives, metrics = slo.parse(arguments.slo), metrics_address(arguments.metrics_url)
    if arguments.scenario:
        scenarios.check(given(words), objectives)
    with Client(connection_from(arguments)) as client:
        if arguments.scenario:
            arguments = scenarios.filled(arguments, client)
        load = load_of(arguments)
        document = measure(client, setting_of(client, arguments), load, objectives, metrics)
    if arguments.scenario:
        document["scenario"] = scenarios.outcome(arguments.scenario, document)
    return arguments, document


def main(arguments_given: Sequence[str]) -> int:
    """Entry point for `python -m loadtest.run MODEL …`."""
    try:
        arguments, document = run(arguments_given)
    except (ClientError, slo.SloError, GeneratorError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text(document))
    print(f"Report: {write(document, arguments.report)}", file=sys.stderr)
    for line in words(document["explanation"]) if arguments.explain else ():
        print(line)
    print(json.dumps({key: value for key, value in document.items() if key not in BULKY}, separators=(",", ":")))
    return exit_code(document)
