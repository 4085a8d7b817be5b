"""Measuring: send a load to one model, and analyze it from both sides.

In an open loop a request is due when the schedule says so, whether or not earlier ones were answered, and its latency
counts from that moment: a stall delays everyone who arrives during it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from clients.client import Client
from clients.connection import Connection
from clients.errors import InvalidInput
from clients.generation import is_language_model
from loadtest.analysis.audit import audit
from loadtest.analysis.counters import stages_us
from loadtest.analysis.explain import explain
from loadtest.analysis.figures import Figures, figures
from loadtest.analysis.result import RunResult
from loadtest.analysis.server_side import Observation, ServerSide, observe, server_side
from loadtest.analysis.tokens import TokenFigures, token_figures
from loadtest.analysis.warmup import warm_up
from loadtest.generator.exact_prompts import exact, target_of
from loadtest.generator.process import Order, Sent, send_all
from loadtest.load import Load
from loadtest.options import GeneratorOptions
from loadtest.payloads import Payload, payload
from loadtest.prompts import PromptOptions, Prompts, parameters_of, read_prompts
from loadtest.slo import Objective

_NOTHING = Observation({}, None)


@dataclass(frozen=True)
class Setting:
    """Where requests go, and how: the same for every run of a search."""

    connection: Connection
    payload: Payload | Prompts
    options: GeneratorOptions


def setting_of(client: Client, model: str, options: GeneratorOptions) -> Setting:
    """Encode the requests for a model; raises what `loadtest.payloads.payload` raises."""
    if is_language_model(client.contract(model)):
        raise InvalidInput(
            f"{model} is a language model, which streams its answers; use `python -m loadtest.llm {model}`"
        )
    return Setting(
        client.connection, payload(client, model, options.samples, options.client_batch, options.payload), options
    )


def prompt_setting(
    client: Client, model: str, protocol: str, options: GeneratorOptions, asked: PromptOptions
) -> Setting:
    """Prepare the prompts for a language model behind one of `loadtest.prompts.STREAMS`.

    Raises:
        InvalidInput: it is no language model, or the prompts cannot be read or made.
        ClientError: the server does not answer, or has no such model.
    """
    parameters_of(asked)
    if protocol != "openai" and not is_language_model(client.contract(model)):
        raise InvalidInput(f"{model} is no language model: it has no input text_input; use `python -m loadtest.run`")
    rows = read_prompts(asked.prompts, asked.output_tokens) if asked.prompts else ()
    prompts = Prompts(model, protocol, asked, rows)
    return Setting(client.connection, prompts if rows else exact(client.connection, prompts), options)


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
    connection, options = setting.connection, setting.options
    cut = options.warm_up_s
    if cut is not None and not 0 <= cut < load.duration:
        raise InvalidInput(f"expected --warm-up of 0 to less than the test's {load.duration:g} seconds, got {cut:g}")
    encoded = setting.payload if isinstance(setting.payload, Payload) else setting.payload.payload(load)
    connections = max(options.connections, options.processes)
    target = target_of(connection, encoded)
    order = Order(target, load, connections, connection.timeout_s)
    if encoded.stream == "openai":  # There, Triton counts nothing.
        before, sent = _NOTHING, send_all(order, options.processes)
        return result_of(setting, load, sent, objectives, server_side(before, before, {"name": encoded.model}, 0.0))
    config, version = client.config(encoded.model), client.server().get("version")
    before = observe(client, metrics)
    sent = send_all(order, options.processes)
    seconds = float((sent.records.due + sent.records.latency).max())
    server = server_side(before, observe(client, metrics, is_over=True), config, seconds, version)
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
    tokens = token_figures(sent.records, cut, load.duration, objectives) if sent.records.streams is not None else None
    # The server counted the warm-up too.
    mean = 1000 * float(timed.latency.mean()) if len(timed) and not generator.problems else None
    result = RunResult(
        model=setting.payload.model,
        protocol=setting.payload.stream or setting.connection.protocol,
        url=setting.connection.url,
        load=load,
        seed=setting.options.seed,
        client_batch=setting.options.client_batch,
        payload=setting.payload.source,
        warm_up_s=cut,
        started=sent.started,
        figures=_with_goodput(seen, tokens, load.duration - cut) if tokens else seen,
        objectives=objectives,
        generator=generator,
        steady=None if load.rate_varies else detected.steady and seen.keeps_up(),
        server=server,
        stages_us={} if tokens else stages_us(server.counted, mean, 1000 * float(sent.records.lag.mean())),
        tokens=tokens,
    )
    # Triton's counters say little of a language model, whose engine does not wait for its instances.
    return result if tokens else replace(result, explanation=explain(result))


def _with_goodput(seen: Figures, tokens: TokenFigures, seconds: float) -> Figures:
    """Replace goodput, which is that of whole answers alone, by the requests that are within every objective."""
    share = round(tokens.good / seen.requests, 4) if seen.requests else None
    return replace(seen, good=tokens.good, goodput_rps=round(tokens.good / seconds, 1), goodput_share=share)
