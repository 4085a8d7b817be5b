"""Calls on shared gRPC channels, each a stream of its own, with requests that are serialised already."""

import asyncio
from dataclasses import dataclass
from typing import Any

from clients.connection import Connection
from clients.wire import GRPC_CHANNEL
from loadtest.generator.lane import Finished, check_size, kind_of
from loadtest.payloads import Payload

METHOD = "/inference.GRPCInferenceService/ModelInfer"
# Connections per process: one would make all calls wait for each other's bytes, one per call is what nobody has.
CHANNELS = 4


@dataclass(frozen=True)
class GrpcTarget:
    """Where to and what: serialised ModelInferRequests."""

    connection: Connection
    requests: tuple[bytes, ...]
    answer_bytes: int


def grpc_target(connection: Connection, payload: Payload) -> GrpcTarget:
    """A payload's bodies are the requests."""
    return GrpcTarget(connection, payload.bodies, payload.answer_bytes)


def open_channel(connection: Connection) -> Any:
    """A channel of its own, encrypted where the connection says so."""
    import grpc.aio

    if connection.tls is None:
        return grpc.aio.insecure_channel(connection.url, options=GRPC_CHANNEL)
    return grpc.aio.secure_channel(connection.url, credentials(connection), options=GRPC_CHANNEL)


def credentials(connection: Connection) -> Any:
    """What gRPC takes of the connection's certificates."""
    import grpc

    tls = connection.tls
    assert tls is not None
    files = (tls.ca_file, tls.key_file or tls.cert_file, tls.cert_file)
    return grpc.ssl_channel_credentials(*(read(file) for file in files))


def read(file: str | None) -> bytes | None:
    """The contents of a PEM file, where one is given."""
    if file is None:
        return None
    with open(file, "rb") as stream:
        return stream.read()


class GrpcLane:
    """One call at a time on a channel that other lanes share."""

    def __init__(self, target: GrpcTarget, channel: Any, finished: Finished):
        self.target = target
        self.channel = channel
        self.finished = finished
        self.call = channel.unary_unary(METHOD)
        self.metadata = tuple((name.lower(), value) for name, value in target.connection.headers.items())
        self.task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Wait until the channel is connected; raises OSError when nothing answers."""
        try:
            await asyncio.wait_for(self.channel.channel_ready(), self.target.connection.timeout_s)
        except TimeoutError as error:
            raise OSError(f"nothing answers at {self.target.connection.url}") from error

    def send(self, number: int) -> None:
        """Begin a call."""
        self.task = asyncio.get_running_loop().create_task(self._carry(number))

    async def _carry(self, number: int) -> None:
        import grpc

        try:
            answer = await self.call(self.target.requests[number % len(self.target.requests)], metadata=self.metadata)
            kind = check_size(len(answer), self.target.answer_bytes)
        except grpc.aio.AioRpcError as error:
            kind = kind_of(error.code().name, error.details() or "")
        self.finished(self, number, kind)

    def give_up(self) -> None:
        """Cancel the call."""
        if self.task:
            self.task.cancel()

    async def close(self) -> None:
        """Close the channel; once more does no harm."""
        await self.channel.close()
