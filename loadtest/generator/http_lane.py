"""A persistent HTTP connection that writes prepared requests and reads no more of answers than it must.

General HTTP clients spend most of their time building headers and parsing them into dictionaries. Here a request is
one write, and only status and length of an answer are read.
"""

import asyncio
import json
import re
import ssl

from clients.connection import Connection, host_and_port
from loadtest.generator.lane import Finished, Target, failure_kind, size_outcome
from loadtest.payloads import Payload

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
CLOSES = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)
HEAD_END = b"\r\n\r\n"
# A server that ends a kept connection without a word does so as the next request is on its way, or never.
_STALE_S = 0.1


def http_target(connection: Connection, payload: Payload) -> Target:
    """Make a target of a payload: put a head before every body."""
    server, _, prefix = connection.url.partition("/")
    path = f"{'/' if prefix else ''}{prefix.rstrip('/')}/{payload.path or f'v2/models/{payload.model}/infer'}"
    headers = {"Host": server, **connection.headers, **payload.headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    requests = (
        f"POST {path} HTTP/1.1\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in payload.bodies
    )
    return Target(connection, tuple(requests), payload.answer_bytes, payload.stream)


class HttpLane(asyncio.Protocol):
    """A connection, opened when it is first needed and again after it broke."""

    def __init__(self, target: Target, tls: ssl.SSLContext | None, finished: Finished):
        self.target = target
        self.tls = tls
        self.finished = finished
        self.transport: asyncio.Transport | None = None
        self.connecting: asyncio.Task[None] | None = None
        self.number = -1  # of the request under way; -1: none
        self.received = bytearray()
        self.expected = 0  # bytes of the answer with its head; 0: not known yet
        self.is_kept = False  # The connection has carried an answer.
        self.written = 0.0  # when the last request was

    async def open(self) -> None:
        """Connect. Raises OSError when nothing answers."""
        host, port = host_and_port(self.target.connection.url)
        await asyncio.get_running_loop().create_connection(lambda: self, host, port, ssl=self.tls)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.is_kept = transport, False

    def send(self, number: int) -> None:
        """Write a request, after connecting where there is no connection."""
        self.number = number
        if self.transport is None:
            self.connecting = asyncio.get_running_loop().create_task(self._connect_and_write())
        else:
            self._write()

    def _write(self) -> None:
        assert self.transport is not None
        self.written = asyncio.get_running_loop().time()
        self.transport.write(self.target.requests[self.number % len(self.target.requests)])

    async def _connect_and_write(self) -> None:
        try:
            await self.open()
        except OSError as error:
            self._finish(failure_kind("no connection", error.strerror or str(error)))
        else:
            self._write()

    def data_received(self, data: bytes) -> None:
        """Read until the answer is as long as its head says."""
        self.received += data
        end = self.received.find(HEAD_END)
        if end < 0:
            return
        body = end + len(HEAD_END)
        if not self.expected:
            length = _CONTENT_LENGTH.search(self.received, 0, end)
            if length is None:
                self._drop()
                self._finish("an answer without Content-Length")
                return
            self.expected = body + int(length[1])
        if len(self.received) < self.expected:
            return
        status = bytes(self.received[9:12])
        if status == b"200":
            kind = size_outcome(self.expected - body, self.target.answer_bytes)
        else:
            kind = failure_kind(f"HTTP {status.decode()}", error_message(bytes(self.received[body:])))
        if CLOSES.search(self.received, 0, end):
            self._drop()
        self._clear()
        self._finish(kind)

    def connection_lost(self, error: Exception | None) -> None:
        """The server closed the connection: a failure only where it owed an answer.

        A request that met the end of a kept connection is sent again on a new one, as RFC 9112, 9.3.1 has it.
        """
        waited = asyncio.get_running_loop().time() - self.written
        is_stale = self.number >= 0 and self.is_kept and not self._has_begun() and waited < _STALE_S
        self.transport = None
        self._clear()
        if is_stale:
            self.send(self.number)
        else:
            self._finish("the connection broke")

    def _has_begun(self) -> bool:
        """Whether a part of the answer has come."""
        return bool(self.received)

    def give_up(self) -> None:
        """Close the connection: the next bytes on it would be the answer to a request that was given up."""
        self.number = -1
        if self.connecting:
            self.connecting.cancel()
        self._drop()

    def _drop(self) -> None:
        """Abort the connection without hearing of it again."""
        transport, self.transport = self.transport, None
        self._clear()
        if transport is not None:
            transport.set_protocol(asyncio.Protocol())
            transport.abort()

    def _clear(self) -> None:
        self.received.clear()
        self.expected = 0

    def _finish(self, kind: str) -> None:
        number, self.number = self.number, -1
        self.is_kept = self.transport is not None
        if number >= 0:
            self.finished(self, number, kind)

    async def close(self) -> None:
        """Close the connection."""
        self._drop()


def error_message(body: bytes) -> str:
    """Triton's or OpenAI's error message, else the body itself."""
    try:
        return error_text(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")


def error_text(error: object) -> str:
    """The words of an error: OpenAI's are in an object, Triton's are a text."""
    return str(error.get("message", error) if isinstance(error, dict) else error)
