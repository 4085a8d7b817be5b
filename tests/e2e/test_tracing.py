"""One trace from a caller's span to Triton's stages, sent to a receiver made of OpenTelemetry's own messages."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from clients.client import Client
from clients.connection import PROTOCOLS, Connection
from tests.conftest import Command, served
from tests.haproxy import NEEDS_HAPROXY
from tests.pages import Page
from tests.waiting import soon
from tools.front.door import Front
from tools.front.options import Backend, FrontOptions
from tools.repository import ROOT, read_config
from tools.serve.launch import otlp_flags
from tools.serve.tritonserver import Options, Server

messages = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

(PAGE,) = Page(ROOT / "docs" / "observability.md").blocks("py")
STAGES = {"InferRequest", "mnist_mlp", "compute"}  # of Triton's own names, from the outside in
AWAITED = """
import asyncio
from clients.aio import AsyncClient

async def ask():
    async with AsyncClient(Connection("http", "127.0.0.1:8000")) as client:
        with trace.get_tracer("shop").start_as_current_span("order"):
            await client.infer("mnist_mlp", np.zeros((1, 784), np.float32))

asyncio.run(ask())
provider.shutdown()
"""
PROGRAMS = {"sync": PAGE, "asyncio": PAGE.partition("with Client")[0] + AWAITED}


@dataclass(frozen=True)
class Span:
    """What a receiver was told of one span."""

    name: str
    trace: str
    id: str
    parent: str


class Receiver(ThreadingHTTPServer):
    """Keeps the spans that are posted to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[Span] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def traces(self) -> dict[str, dict[str, Span]]:
        """Spans by trace and name."""
        found: dict[str, dict[str, Span]] = {}
        for span in list(self.spans):
            found.setdefault(span.trace, {})[span.name] = span
        return found


def spans_of_protobuf(body: bytes) -> list[Span]:
    """As OpenTelemetry for Python sends them."""
    request = messages.ExportTraceServiceRequest.FromString(body)
    found = [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]
    return [Span(one.name, one.trace_id.hex(), one.span_id.hex(), one.parent_span_id.hex()) for one in found]


def spans_of_json(body: bytes) -> list[Span]:
    """As Triton sends them; ids are in hexadecimal, unlike in other JSON of protobuf."""
    request = json.loads(body)
    found = [
        span for resource in request["resourceSpans"] for scope in resource["scopeSpans"] for span in scope["spans"]
    ]
    return [Span(one["name"], one["traceId"], one["spanId"], one.get("parentSpanId", "")) for one in found]


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Receiver) and self.path == "/v1/traces"
        body = self.rfile.read(int(self.headers["Content-Length"]))
        is_json = self.headers["Content-Type"].startswith("application/json")
        self.server.spans += spans_of_json(body) if is_json else spans_of_protobuf(body)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture(scope="module")
def traced(receiver: Receiver, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of one model that tells the receiver soon."""
    models = tmp_path_factory.mktemp("models")
    (models / "mnist_mlp").symlink_to(repository / "mnist_mlp")
    flags = [*otlp_flags(receiver.url), "--trace-config=opentelemetry,bsp_schedule_delay=100"]
    with served(Options(models, flags=flags)) as running:
        yield running


@pytest.fixture(scope="module")
def access_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("door") / "access.json"


@pytest.fixture(scope="module")
def door(traced: Server, access_log: Path) -> Iterator[Front]:
    """A front door before that server."""
    options = FrontOptions(front="127.0.0.1:0", operator="127.0.0.1:0", access_log=access_log)
    backends = [Backend("replica0", traced.http, traced.grpc)]
    with Front(access_log.parent, options, [read_config("mnist_mlp")], backends) as front:
        yield front


def order(program: str, protocol: str, address: str, receiver: Receiver) -> dict[str, Span]:
    """Run a program against an address; the spans of its trace by name, once Triton's have come."""
    known = receiver.traces().keys()
    text = PROGRAMS[program].replace("http://127.0.0.1:4318", receiver.url)
    text = text.replace('"http", "127.0.0.1:8000"', f'"{protocol}", "{address}"')
    subprocess.run([sys.executable, "-W", "error", "-c", text], cwd=ROOT, check=True, timeout=60)

    def come() -> list[dict[str, Span]]:
        new = [spans for trace, spans in receiver.traces().items() if trace not in known]
        return [spans for spans in new if spans.keys() >= STAGES | {"order"}]

    assert soon(lambda: bool(come()))
    (spans,) = come()
    return spans


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_callers_span_and_tritons_stages_are_one_trace(
    program: str, protocol: str, traced: Server, receiver: Receiver
) -> None:
    spans = order(program, protocol, traced.address(protocol), receiver)
    assert spans["inference of mnist_mlp"].parent == spans["order"].id
    assert spans["InferRequest"].parent == spans["inference of mnist_mlp"].id
    assert spans["mnist_mlp"].parent == spans["InferRequest"].id
    assert spans["compute"].parent == spans["mnist_mlp"].id


@NEEDS_HAPROXY
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_trace_goes_through_the_front_door_whose_log_names_it(
    protocol: str, door: Front, access_log: Path, receiver: Receiver
) -> None:
    spans = order("sync", protocol, door.address, receiver)
    assert spans["InferRequest"].parent == spans["inference of mnist_mlp"].id

    def logged() -> set[str]:
        entries = [json.loads(line) for line in access_log.read_text().split("\n")[:-1]]
        return {entry["trace"] for entry in entries if entry["model"] == "mnist_mlp"}

    assert soon(lambda: spans["order"].trace in logged())


def test_a_request_that_brings_no_trace_is_not_traced(traced: Server, receiver: Receiver) -> None:
    known, trace = receiver.traces().keys(), "5" * 32
    for headers in ({}, {"traceparent": f"00-{trace}-{'7' * 16}-01"}):
        with Client(Connection("http", traced.http, headers=headers)) as client:
            client.infer("mnist_mlp", np.zeros((1, 784), np.float32))
    # The later one is.
    assert soon(lambda: receiver.traces().get(trace, {}).keys() >= STAGES)
    assert receiver.traces().keys() == {*known, trace}


def test_an_address_that_is_none_is_refused(command: Command) -> None:
    answer = command("tools.serve", "--otlp", "127.0.0.1:4318")
    assert answer.returncode == 2
    assert "argument --otlp: expected http://HOST:PORT, the base of an OTLP receiver, got" in answer.stderr
