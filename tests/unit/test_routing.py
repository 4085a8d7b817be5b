"""What passes the router, in this process: which models a request goes to, how long it may take, and how it breaks off.

Behind the router are servers that do as they are told, and say what they were asked.
"""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from aiohttp import ClientSession, web
from tritonclient.grpc._utils import _get_inference_request
from tritonclient.grpc.service_pb2 import ModelInferRequest, ModelInferResponse

from clients.router.__main__ import _serve
from clients.router.grpc_proxy import grpc_router
from clients.router.http_proxy import HttpRouter
from clients.router.trial import Terms, Trial
from clients.router.trials import Trials

ANY_PORT = "127.0.0.1:0"
SERVICE = "/inference.GRPCInferenceService/"
IMAGE = np.ones((1, 2), np.float32)


@dataclass
class Server(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers every request after some seconds, over either protocol, and remembers the models that were asked."""

    seconds: float = 0.0
    begun: int = 0
    asked: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler:
        """Answer whatever method it is."""
        return grpc.unary_unary_rpc_method_handler(self.infer)

    async def infer(self, message: bytes, _: Any) -> bytes:
        """An inference over gRPC."""
        return await self.answer(ModelInferRequest.FromString(message).model_name)

    async def post(self, request: web.Request) -> web.Response:
        """The same over HTTP."""
        await request.read()
        return web.Response(body=await self.answer(request.path.split("/")[3]))

    async def answer(self, model: str) -> bytes:
        """Take some time."""
        self.begun += 1
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled.append(model)
            raise
        self.asked.append(model)
        return bytes(ModelInferResponse(model_name=model).SerializeToString())


def all_in_a_trial(mode: str = "shadow") -> Trials:
    """Each request for m goes to c, too."""
    trials = Trials(patience_s=30.0)
    trials.running["m"] = Trial(Terms("m", "c", mode, share=1.0))  # type: ignore[arg-type]
    return trials


@asynccontextmanager
async def http(handler: Callable[..., Any]) -> AsyncIterator[str]:
    """A handler of all requests; yields its address."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    async with _serve(application, ANY_PORT) as address:
        yield address


@asynccontextmanager
async def routed_http(upstream: str, trials: Trials, timeout_s: float = 60.0) -> AsyncIterator[str]:
    """The router before a server's HTTP; yields its address."""
    async with HttpRouter(upstream, trials, timeout_s) as router, http(router.handle) as address:
        yield address


@asynccontextmanager
async def routed_grpc(server: Server, trials: Trials, timeout_s: float = 60.0) -> AsyncIterator[grpc.aio.Channel]:
    """The router before a server's gRPC; yields a channel to it."""
    upstream = grpc.aio.server()
    upstream.add_generic_rpc_handlers((server,))
    port = upstream.add_insecure_port(ANY_PORT)
    await upstream.start()
    async with (
        grpc_router(f"127.0.0.1:{port}", trials, timeout_s, ANY_PORT) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield channel
    await upstream.stop(None)


def tensors(module: Any) -> dict[str, tuple[list[Any], list[Any], int]]:
    """Inputs, outputs and the sequence of requests, by what is special about them."""

    def image() -> Any:
        return module.InferInput("X", [1, 2], "FP32")

    plain, shared, written = image().set_data_from_numpy(IMAGE), image(), module.InferRequestedOutput("Y")
    shared.set_shared_memory("in", 8)
    written.set_shared_memory("out", 8)
    return {
        "nothing": ([plain], [], 0),
        "shared input": ([shared], [], 0),
        "shared output": ([plain], [written], 0),
        "sequence": ([plain], [], 7),
    }


KINDS = tuple(tensors(over_http))


def http_message(inputs: list[Any], outputs: list[Any], sequence: int) -> bytes:
    """The body of a request, as Triton's client sends it."""
    body, _ = over_http.InferenceServerClient.generate_request_body(inputs, outputs=outputs, sequence_id=sequence)
    return bytes(body)


def grpc_message(inputs: list[Any], outputs: list[Any], sequence: int) -> bytes:
    """The message of a request, as Triton's client sends it."""
    request = _get_inference_request(
        model_name="m",
        inputs=inputs,
        model_version="",
        request_id="",
        outputs=outputs,
        sequence_id=sequence,
        sequence_start=bool(sequence),
        sequence_end=False,
        priority=0,
        timeout=None,
        parameters=None,
    )
    return bytes(request.SerializeToString())


def went_to(asked: Iterable[str], both: bool) -> bool:
    """Whether a request was asked of both models, or of the caller's alone."""
    return sorted(asked) == (["c", "m"] if both else ["m"])


@pytest.mark.parametrize("kind", KINDS)
def test_only_one_model_works_on_shared_memory_and_on_a_sequence(kind: str) -> None:
    async def ask() -> list[str]:
        server, trials = Server(), all_in_a_trial()
        async with routed_grpc(server, trials) as channel:
            await channel.unary_unary(f"{SERVICE}ModelInfer")(grpc_message(*tensors(over_grpc)[kind]))
        async with http(server.post) as upstream, routed_http(upstream, trials) as address, ClientSession() as session:
            over_grpc_asked, server.asked = server.asked, []
            await session.post(f"http://{address}/v2/models/m/infer", data=http_message(*tensors(over_http)[kind]))
            await trials.finish()
        assert went_to(over_grpc_asked, both=kind == "nothing")
        return server.asked

    assert went_to(asyncio.run(ask()), both=kind == "nothing")


def test_what_is_compressed_cannot_be_looked_into_and_goes_to_one_model() -> None:
    async def ask() -> list[str]:
        server, trials = Server(), all_in_a_trial("canary")
        async with http(server.post) as upstream, routed_http(upstream, trials) as address, ClientSession() as session:
            url, body = (
                f"http://{address}/v2/models/m/infer",
                gzip.compress(http_message(*tensors(over_http)["sequence"])),
            )
            await session.post(url, data=body, headers={"Content-Encoding": "gzip"})
            await trials.finish()
        return server.asked

    assert went_to(asyncio.run(ask()), both=False)


def test_the_answer_of_a_candidate_has_the_model_s_name() -> None:
    async def ask() -> str:
        async with routed_grpc(Server(), all_in_a_trial("canary")) as channel:
            message = grpc_message(*tensors(over_grpc)["nothing"])
            answer = await channel.unary_unary(f"{SERVICE}ModelInfer")(message)
            return str(ModelInferResponse.FromString(answer).model_name)

    assert asyncio.run(ask()) == "m"


@pytest.mark.parametrize("trials", [Trials(1.0), all_in_a_trial()], ids=["alone", "in a trial"])
def test_an_inference_over_grpc_ends_in_peace_though_its_caller_leaves_and_the_router_stops(trials: Trials) -> None:
    async def leave() -> Server:
        server = Server(seconds=0.3)
        async with routed_grpc(server, trials) as channel:
            call = channel.unary_unary(f"{SERVICE}ModelInfer")(grpc_message(*tensors(over_grpc)["nothing"]))
            while server.begun < 1 + bool(trials.running):
                await asyncio.sleep(0.01)
            call.cancel()
        return server

    server = asyncio.run(leave())
    assert not server.cancelled and went_to(server.asked, both=bool(trials.running))


def test_only_inferences_over_grpc_and_those_of_a_trial_have_a_deadline_of_the_router_s() -> None:
    async def wait() -> None:
        server, message = Server(seconds=0.3), grpc_message(*tensors(over_grpc)["nothing"])
        async with routed_grpc(server, Trials(1.0), timeout_s=0.1) as channel:
            assert await channel.unary_unary(f"{SERVICE}RepositoryModelLoad")(message)
            with pytest.raises(grpc.aio.AioRpcError, match="DEADLINE_EXCEEDED"):
                await channel.unary_unary(f"{SERVICE}ModelInfer")(message)
        for trials, status in ((Trials(1.0), 200), (all_in_a_trial(), 502)):
            async with (
                http(server.post) as upstream,
                routed_http(upstream, trials, timeout_s=0.1) as address,
                ClientSession() as session,
            ):
                answer = await session.post(f"http://{address}/v2/models/m/infer", data=b"{}")
                assert answer.status == status

    asyncio.run(wait())


@pytest.mark.parametrize(
    "head", [b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", b"Content-Length: 9\r\n\r\nhello"]
)
def test_an_answer_that_breaks_off_breaks_off_for_its_caller(head: bytes) -> None:
    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n" + head)
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.close()

    async def ask() -> bytes:
        got = b""
        async with await asyncio.start_server(die, "127.0.0.1", 0) as server:
            upstream = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with routed_http(upstream, Trials(1.0)) as address, asyncio.timeout(60):
                host, port = address.split(":")
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
                with suppress(ConnectionResetError):
                    while part := await reader.read(1000):
                        got += part
                writer.close()
        return got

    got = asyncio.run(ask())
    assert got.count(b"HTTP/1.1") == 1 and b"hello" in got and not got.endswith(b"0\r\n\r\n")
