"""Measuring: send a load to one model, and analyze it from both sides.

In an open loop a request is due when the schedule says so, whether or not earlier ones were answered, and its latency
counts from that moment: a stall delays everyone who arrives during it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from clients.client import Client
from clients.connection import Connection
from clients.errors import InvalidInput
from loadtest.analysis.audit import audit
from loadtest.analysis.counters import stages_us
from loadtest.analysis.explain import explain
from loadtest.analysis.figures import figures
from loadtest.analysis.result import RunResult
from loadtest.analysis.server_side import ServerSide, observe, server_side
from loadtest.analysis.warmup import warm_up
from loadtest.generator.http_lane import http_target
from loadtest.generator.lane import Target
from loadtest.generator.process import Order, Sent, send_all
from loadtest.load import Load
from loadtest.options import GeneratorOptions
from loadtest.payloads import Payload, payload
from loadtest.slo import Objective


@dataclass(frozen=True)
class Setting:
    """Where requests go, and how: the same for every run of a search."""

    connection: Connection
    payload: Payload
    options: GeneratorOptions


def setting_of(client: Client, model: str, options: GeneratorOptions) -> Setting:
    """Encode the requests for a model; raises what `loadtest.payloads.payload` raises."""
    return Setting(
        client.connection, payload(client, model, options.samples, options.client_batch, options.payload), options
    )


def measure(
    client: Client, setting: Setting, load: Load, objectives: Sequence[Objective], metrics: str | None = None
) -> RunResult:
    """Send a load, and analyze what the client saw and what the server counted.

    Triton's metrics endpoint, if its address is given, says what the server rejected.

    Raises:
        InvalidInput: nothing would be left after the warm-up.
        ClientError: the server does not answer.
        GeneratorError: a sending process died.
    """
    connection, encoded, options = setting.connection, setting.payload, setting.options
    cut = options.warm_up_s
    if cut is not None and not 0 <= cut < load.duration:
        raise InvalidInput(f"expected --warm-up of 0 to less than the test's {load.duration:g} seconds, got {cut:g}")
    if connection.protocol == "http":
        target = http_target(connection, encoded)
    else:
        target = Target(connection, encoded.bodies, encoded.answer_bytes)
    connections = max(options.connections, options.processes)
    order = Order(target, load.due, load.callers, load.duration, connections, connection.timeout_s)
    config, version = client.config(encoded.model), client.server().get("version")
    before = observe(client, metrics)
    sent = send_all(order, options.processes)
    seconds = float((sent.records.due + sent.records.latency).max())
    server = server_side(before, observe(client, metrics), config, seconds, version)
    return result_of(setting, load, sent, objectives, server)


def result_of(
    setting: Setting, load: Load, sent: Sent, objectives: Sequence[Objective], server: ServerSide
) -> RunResult:
    """Analyze what was sent, beside what the server did."""
    timed, generator = sent.records.timed(), audit(sent)
    detected, cut = warm_up(timed.latency), setting.options.warm_up_s
    if cut is None:
        # Where the rate varies, so does the state: nothing is warm-up.
        cut = float(timed.due[detected.requests]) if detected.requests and not load.rate_varies else 0.0
    seen = figures(sent.records, cut, load.duration, objectives)
    # The server counted the warm-up too.
    mean = 1000 * float(timed.latency.mean()) if len(timed) and not generator.problems else None
    result = RunResult(
        model=setting.payload.model,
        protocol=setting.connection.protocol,
        url=setting.connection.url,
        load=load,
        seed=setting.options.seed,
        client_batch=setting.options.client_batch,
        payload=setting.payload.source,
        warm_up_s=cut,
        started=sent.started,
        figures=seen,
        objectives=objectives,
        generator=generator,
        steady=None if load.rate_varies else detected.steady and seen.keeps_up(),
        server=server,
        stages_us=stages_us(server.counted, mean, 1000 * float(sent.records.lag.mean())),
    )
    return replace(result, explanation=explain(result))
