"""Calls on shared gRPC channels, with requests that are serialized beforehand."""

import asyncio
from pathlib import Path
from typing import Any

from clients.connection import Connection
from clients.wire import channel_options
from loadtest.generator.lane import Finished, Target, failure_kind, size_outcome

METHOD = "/inference.GRPCInferenceService/ModelInfer"
# Connections per process: on one, calls would wait for each other's bytes; one per call is what no client has.
CHANNELS = 4


def open_channel(connection: Connection) -> Any:
    """Open a channel of its own, encrypted where the connection has TLS."""
    import grpc.aio

    tls, options = connection.tls, channel_options(connection.url)
    if tls is None:
        return grpc.aio.insecure_channel(connection.url, options=options)
    files = (tls.ca_file, tls.key_file or tls.cert_file, tls.cert_file)
    credentials = grpc.ssl_channel_credentials(*(Path(file).read_bytes() if file else None for file in files))
    return grpc.aio.secure_channel(connection.url, credentials, options=options)


class GrpcLane:
    """One call at a time on a channel that other lanes share."""

    def __init__(self, target: Target, channel: Any, finished: Finished):
        self.target = target
        self.channel = channel
        self.finished = finished
        self.call = channel.unary_unary(METHOD)
        self.metadata = tuple((name.lower(), value) for name, value in target.connection.headers.items())
        self.task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Wait until the channel is connected. Raises OSError when nothing answers."""
        try:
            await asyncio.wait_for(self.channel.channel_ready(), self.target.connection.timeout_s)
        except TimeoutError as error:
            raise OSError(f"nothing answers at {self.target.connection.url}") from error

    def send(self, number: int) -> None:
        """Start a call."""
        self.task = asyncio.get_running_loop().create_task(self._carry(number))

    async def _carry(self, number: int) -> None:
        import grpc

        try:
            answer = await self.call(self.target.requests[number % len(self.target.requests)], metadata=self.metadata)
            kind = size_outcome(len(answer), self.target.answer_bytes)
        except grpc.aio.AioRpcError as error:
            kind = failure_kind(error.code().name, error.details() or "")
        self.finished(self, number, kind)

    def give_up(self) -> None:
        """Cancel the call."""
        if self.task:
            self.task.cancel()

    async def close(self) -> None:
        """Close the channel; closing it again is harmless."""
        await self.channel.close()
