"""gRPC on its way through the router: passed on, or answered by a model and its candidate at once.

Messages pass as bytes, whatever they are; only an inference is read while there is a trial. Streams are passed on: what
comes in them is no pair of a request and its answer. An inference goes on without its caller: one that is cancelled, or
passes its deadline, can end tritonserver 2.51.
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

    def __init__(self, channel: grpc.aio.Channel, trials: Trials, timeout_s: float):
        self._channel, self._trials, self._timeout_s = channel, trials, timeout_s
        self._inferences: set[asyncio.Future[GrpcReply]] = set()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """How a method is answered, whatever it is called."""
        method = handler_call_details.method
        if method == _STREAM:
            return grpc.stream_stream_rpc_method_handler(self._stream)
        return grpc.unary_unary_rpc_method_handler(partial(self._answer, method))

    async def _answer(self, method: str, message: bytes, context: Any) -> bytes:
        metadata = _end_to_end(context.invocation_metadata())
        reply = await (self._inferred(message, metadata) if method == _INFER else self._ask(method, message, metadata))
        if not reply.good:
            await context.abort(reply.code, reply.details, reply.metadata)
        context.set_trailing_metadata(reply.metadata)
        return reply.body

    async def _inferred(self, message: bytes, metadata: Metadata) -> GrpcReply:
        inference = asyncio.ensure_future(self._infer(message, metadata))
        self._inferences.add(inference)
        inference.add_done_callback(self._inferences.discard)
        return await asyncio.shield(inference)

    async def finish(self) -> None:
        """Wait for the inferences that are under way, of a trial or not."""
        await asyncio.gather(*self._inferences, return_exceptions=True)
        await self._trials.finish()

    async def _infer(self, message: bytes, metadata: Metadata) -> GrpcReply:
        ask = partial(self._ask, _INFER, metadata=metadata, timeout_s=self._timeout_s)
        if self._trials.running:
            request = ModelInferRequest.FromString(message)
            # Requests that name a version are passed on: they mean that one.
            trial = None if request.model_version else self._trials.for_request(request.model_name, message)
            if trial:
                request.model_name = trial.terms.candidate
                return await self._trials.answer(trial, ask(message), ask(request.SerializeToString()))
        return await ask(message)

    async def _ask(self, method: str, message: bytes, metadata: Metadata, timeout_s: float | None = None) -> GrpcReply:
        began = time.monotonic()
        call = self._channel.unary_unary(method)(message, metadata=metadata, timeout=timeout_s)
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
async def grpc_router(upstream: str, trials: Trials, timeout_s: float, address: str) -> AsyncIterator[str]:
    """Pass calls on to a server's gRPC within the block; yields where callers are listened to.

    Callers decide how long they wait; inferences, which go on without their callers, have `timeout_s`.

    Raises:
        ToolError: the address is taken, or is none of this host.
    """
    server = grpc.aio.server(options=_OPTIONS)
    async with grpc.aio.insecure_channel(upstream, options=wire.channel_options(upstream)) as channel:
        router = GrpcRouter(channel, trials, timeout_s)
        server.add_generic_rpc_handlers((router,))
        try:
            port = server.add_insecure_port(address)
        except RuntimeError as error:
            raise ToolError(f"cannot listen at {address} for gRPC; choose another with --listen-grpc") from error
        await server.start()
        try:
            yield connection.at_port(address, port)
        finally:
            await server.stop(_STOP_S)
            await router.finish()
