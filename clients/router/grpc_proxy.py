"""gRPC on its way through the router: passed on, or answered by a model and its candidate at once.

Messages pass as bytes, whatever they are; only an inference is read while there is a trial. Streams are passed on: what
comes in them is no pair of a request and its answer.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import grpc
from tritonclient.grpc import InferResult
from tritonclient.grpc.service_pb2 import ModelInferRequest, ModelInferResponse

from clients import connection, wire
from clients.contract import Array
from clients.errors import ToolError
from clients.router.http_proxy import TIMEOUT_S
from clients.router.trials import Trials

_SERVICE = "/inference.GRPCInferenceService/"
_INFER, _STREAM = f"{_SERVICE}ModelInfer", f"{_SERVICE}ModelStreamInfer"
# Metadata of one connection, which gRPC itself writes.
_RESERVED = frozenset(("te", "content-type", "user-agent"))
# An address in use is to be an error, and messages of any size pass.
_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
)
_STOP_S = 10.0

Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True)
class GrpcReply:
    """A reply over gRPC: its status, the words of an error, its message and metadata, and the seconds that it took."""

    protocol: ClassVar[connection.Protocol] = "grpc"
    code: grpc.StatusCode
    details: str
    body: bytes
    metadata: Metadata
    seconds: float

    @property
    def good(self) -> bool:
        """Whether the request was answered."""
        return self.code is grpc.StatusCode.OK

    def first_output(self) -> Array:
        """The first output."""
        answer = ModelInferResponse.FromString(self.body)
        array: Array = InferResult(answer).as_numpy(answer.outputs[0].name)
        return array

    def renamed(self, name: str) -> "GrpcReply":
        """The same with another model's name."""
        answer = ModelInferResponse.FromString(self.body)
        answer.model_name = name
        return replace(self, body=answer.SerializeToString())


class GrpcRouter(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Passes calls on to a server over a channel to it."""

    def __init__(self, channel: grpc.aio.Channel, trials: Trials):
        self._channel, self._trials = channel, trials
        self._calls: set[asyncio.Future[GrpcReply]] = set()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """How a method is answered, whatever it is called."""
        method = handler_call_details.method
        if method == _STREAM:
            return grpc.stream_stream_rpc_method_handler(self._stream)
        return grpc.unary_unary_rpc_method_handler(partial(self._answer, method))

    async def _answer(self, method: str, message: bytes, context: Any) -> bytes:
        metadata = _end_to_end(context.invocation_metadata())
        # A caller who goes away does not end the call: one that is cancelled can end tritonserver 2.51.
        call = asyncio.ensure_future(self._reply(method, message, metadata))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        reply = await asyncio.shield(call)
        if not reply.good:
            await context.abort(reply.code, reply.details, reply.metadata)
        context.set_trailing_metadata(reply.metadata)
        return reply.body

    async def _reply(self, method: str, message: bytes, metadata: Metadata) -> GrpcReply:
        if method == _INFER and self._trials.running:
            request = ModelInferRequest.FromString(message)
            # Requests that name a version are passed on: they mean that one.
            trial = None if request.model_version else self._trials.for_request(request.model_name)
            if trial:
                request.model_name = trial.terms.candidate
                model = self._ask(method, message, metadata)
                candidate = self._ask(method, request.SerializeToString(), metadata)
                reply, is_candidates = await self._trials.answer(trial, model, candidate)
                return reply.renamed(trial.terms.model) if is_candidates else reply
        return await self._ask(method, message, metadata)

    async def _ask(self, method: str, message: bytes, metadata: Metadata) -> GrpcReply:
        began = time.monotonic()
        call = self._channel.unary_unary(method)(message, metadata=metadata, timeout=TIMEOUT_S)
        try:
            body, trailing = await call, await call.trailing_metadata()
        except grpc.aio.AioRpcError as error:
            words, trailing = error.details() or "", error.trailing_metadata()
            return GrpcReply(error.code(), words, b"", _end_to_end(trailing), time.monotonic() - began)
        return GrpcReply(grpc.StatusCode.OK, "", body, _end_to_end(trailing), time.monotonic() - began)

    async def _stream(self, messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        call = self._channel.stream_stream(_STREAM)(messages, metadata=_end_to_end(context.invocation_metadata()))
        try:
            async for message in call:
                yield message
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details() or "", _end_to_end(error.trailing_metadata()))
        finally:
            call.cancel()


def _end_to_end(metadata: Any) -> Metadata:
    return tuple(
        (key, value) for key, value in metadata or () if key not in _RESERVED and not key.startswith((":", "grpc-"))
    )


@asynccontextmanager
async def grpc_router(upstream: str, trials: Trials, address: str) -> AsyncIterator[str]:
    """Pass calls on to a server's gRPC within the block; yields where callers are listened to.

    Raises:
        ToolError: the address is taken, or is none of this host.
    """
    server = grpc.aio.server(options=_OPTIONS)
    async with grpc.aio.insecure_channel(upstream, options=wire.channel_options(upstream)) as channel:
        server.add_generic_rpc_handlers((GrpcRouter(channel, trials),))
        try:
            port = server.add_insecure_port(address)
        except RuntimeError as error:
            raise ToolError(f"cannot listen at {address} for gRPC; choose another with --listen-grpc") from error
        await server.start()
        try:
            yield connection.at_port(address, port)
        finally:
            await server.stop(_STOP_S)
            await trials.finish()
