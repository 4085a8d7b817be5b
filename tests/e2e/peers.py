"""Real peers on loopback that misbehave or encrypt, certificates for them, and one way to call either client."""

import asyncio
import http.client
import http.server
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from clients.aio import AsyncClient
from clients.client import Client
from clients.connection import Connection, Protocol
from tools.front.certificates import write_authority, write_certificate

STYLES = ("sync", "asyncio")
_HELD: list[socket.socket] = []


def ask(style: str, connection: Connection, method: str, *arguments: Any, **options: Any) -> Any:
    """Call one method of a fresh client, which is closed afterwards."""

    async def asked() -> Any:
        async with AsyncClient(connection) as client:
            return await getattr(client, method)(*arguments, **options)

    if style == "asyncio":
        return asyncio.run(asked())
    with Client(connection) as client:
        return getattr(client, method)(*arguments, **options)


def nobody() -> str:
    """An address of this host where nothing listens, nor can for as long as this process lives."""
    _HELD.append(socket.socket())
    _HELD[-1].bind(("127.0.0.1", 0))
    return f"127.0.0.1:{_HELD[-1].getsockname()[1]}"


def free_address() -> str:
    """An address of this host where nothing listens, for whoever is about to."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        return f"127.0.0.1:{holder.getsockname()[1]}"


@contextmanager
def listening(answer: Callable[[socket.socket, int], None]) -> Iterator[str]:
    """A server that hands each connection, with its number, to a function and then closes it; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener, answer))
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def serve(listener: socket.socket, answer: Callable[[socket.socket, int], None]) -> None:
    """Accept until the listener is shut down."""
    talks: list[tuple[socket.socket, threading.Thread]] = []
    while True:
        try:
            accepted, _ = listener.accept()
        except OSError:
            break
        talks.append((accepted, threading.Thread(target=converse, args=(accepted, answer, len(talks)))))
        talks[-1][1].start()
    for accepted, thread in talks:
        # gRPC keeps an unfinished handshake for 20 s after its channel was closed.
        with suppress(OSError):
            accepted.shutdown(socket.SHUT_RDWR)
        thread.join()


def converse(accepted: socket.socket, answer: Callable[[socket.socket, int], None], number: int) -> None:
    """Talk to one client until either side hangs up."""
    with accepted, suppress(OSError):
        answer(accepted, number)


def silence(accepted: socket.socket, _: int) -> None:
    """Read forever and never answer."""
    while accepted.recv(65536):
        pass


def drip(accepted: socket.socket, _: int) -> None:
    """Begin a response and send one byte of it every tenth of a second, for ten seconds."""
    accepted.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(100):
        accepted.sendall(b" ")
        time.sleep(0.1)


def hang_up(_: socket.socket, __: int) -> None:
    """Close the connection at once."""


@contextmanager
def together(protocol: Protocol, parties: int) -> Iterator[str]:
    """A server that is ready only when so many ask at the same time; yields its address."""
    barrier = threading.Barrier(parties, timeout=30)
    if protocol == "http":
        with listening(lambda accepted, _: ready_over_http(accepted, barrier)) as address:
            yield address
        return
    with ThreadPoolExecutor(parties) as pool:
        server = grpc.server(pool)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(ReadyOverGrpc(barrier), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(None).wait()


def ready_over_http(accepted: socket.socket, barrier: threading.Barrier) -> None:
    """Answer one request when all have come, and hang up on those that wait alone."""
    with suppress(threading.BrokenBarrierError):
        accepted.recv(65536)
        barrier.wait()
        accepted.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


class ReadyOverGrpc(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answer readiness when all have asked."""

    def __init__(self, barrier: threading.Barrier):
        self.barrier = barrier

    def ServerReady(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Wait for the others; fail when they do not come."""
        self.barrier.wait()
        return service_pb2.ServerReadyResponse(ready=True)


def certificates(folder: Path) -> None:
    """Write ca.pem, which signs server.pem and client.pem for 127.0.0.1, and other.pem, which nobody trusts."""
    for name in ("ca", "other"):
        write_authority(folder, name)
    for name in ("server", "client"):
        write_certificate(folder, name, ["127.0.0.1"])


class Forward(http.server.BaseHTTPRequestHandler):
    """Pass each request on to `upstream` and its answer back, headers included."""

    protocol_version = "HTTP/1.1"
    upstream: str

    def do_GET(self) -> None:  # noqa: N802
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        upstream = http.client.HTTPConnection(self.upstream, timeout=10)
        upstream.request(self.command, self.path, body, dict(self.headers))
        answer = upstream.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        upstream.close()

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None: ...


@contextmanager
def forwarding(handler: type[Forward], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """A proxy with a handler; yields its address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as proxy:
        if tls:
            proxy.socket = tls.wrap_socket(proxy.socket, server_side=True)
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"127.0.0.1:{proxy.server_port}"
        finally:
            proxy.shutdown()
            thread.join()


@contextmanager
def tls_proxy(upstream: str, folder: Path, mutual: bool) -> Iterator[str]:
    """A TLS front for Triton's HTTP, which has none of its own; its address."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "ca.pem"))
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED if mutual else ssl.CERT_NONE
    with forwarding(type("Front", (Forward,), {"upstream": upstream}), context) as address:
        yield address
