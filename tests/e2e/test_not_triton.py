"""What answers but is not Triton, and misuse of a client: each an error of ours that says what to check."""

import asyncio
import http.server
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from clients.aio import AsyncClient
from clients.client import Client
from clients.connection import Connection, Protocol
from clients.errors import ClientError, InvalidInput, ServerFailed, ServerUnavailable
from tests.conftest import Command
from tests.e2e.peers import STYLES, ask, listening
from tools.repository import ROOT
from tools.serve.tritonserver import Server

IMAGE = np.zeros((1, 784), np.float32)
CALLS: dict[str, tuple[Any, ...]] = {
    "server": (),
    "models": (),
    "statistics": (),
    "config": ("mnist_mlp",),
    "infer": ("mnist_mlp", IMAGE),
    "classify": ("mnist_mlp", IMAGE),
}
in_both_styles = pytest.mark.parametrize("style", STYLES)


@contextmanager
def page(body: bytes, status: int = 200) -> Iterator[str]:
    """A web server with one page at every path; its address."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@in_both_styles
@pytest.mark.parametrize("body", [b"<html>hello</html>", b"", b"{}", b"7", b"null", b"[1]", b"\xff\x00"])
def test_a_page_that_is_not_triton_s_is_an_error_that_says_so(style: str, body: bytes) -> None:
    with page(body) as address:
        for method, arguments in CALLS.items():
            if (body, method) in ((b"{}", "models"), (b"{}", "statistics")):
                continue  # Nothing listed, which may be true.
            with pytest.raises(ServerFailed, match=rf"at http://{address}: the answer is not Triton's \(.*check --url"):
                ask(style, Connection("http", address), method, *arguments)


@in_both_styles
@pytest.mark.parametrize(("status", "kind"), [(404, ServerFailed), (500, ServerFailed), (502, ServerUnavailable)])
def test_an_error_page_is_shown_in_one_line(style: str, status: int, kind: type[ClientError]) -> None:
    with page(b"<html>\n<body>sorry</body></html>", status) as address, pytest.raises(kind, match="sorry") as caught:
        ask(style, Connection("http", address, retries=0), "server")
    assert "\n" not in str(caught.value)


@in_both_styles
def test_the_ports_of_a_server_are_told_apart(style: str, server: Server) -> None:
    for protocol, address in (("http", server.metrics), ("http", server.grpc), ("grpc", server.http)):
        for method, arguments in CALLS.items():
            with pytest.raises(ClientError, match="--protocol") as caught:
                ask(style, Connection("grpc" if protocol == "grpc" else "http", address, retries=0), method, *arguments)
            assert "\n" not in str(caught.value)


@in_both_styles
@pytest.mark.parametrize(
    "said", [b"SSH-2.0-OpenSSH_9\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b"\x00" * 90]
)
def test_another_protocol_is_an_error_of_one_line(style: str, said: bytes) -> None:
    def answer(accepted: socket.socket, _: int) -> None:
        accepted.recv(65536)
        accepted.sendall(said)

    with listening(answer) as address, pytest.raises(ClientError, match=address) as caught:
        ask(style, Connection("http", address, retries=0), "server")
    assert "\n" not in str(caught.value)


@in_both_styles
def test_a_version_may_be_a_number(style: str, connection: Connection) -> None:
    assert ask(style, connection, "infer", "mnist_mlp", IMAGE, version=1)["OUTPUT__0"].shape == (1, 10)
    assert ask(style, connection, "config", "mnist_mlp", version=1)["name"] == "mnist_mlp"
    with pytest.raises(InvalidInput, match="mnist_mlp: expected a version number, got '1.5'"):
        ask(style, connection, "infer", "mnist_mlp", IMAGE, version=1.5)


@in_both_styles
@pytest.mark.parametrize("values", [[[0.0] * 784, [0.0]], {"INPUT__0": [[0.0], [0.0, 1.0]]}])
def test_rows_of_different_lengths_are_refused(style: str, connection: Connection, values: Any) -> None:
    with pytest.raises(InvalidInput, match="mnist_mlp input 'INPUT__0': expected an array"):
        ask(style, connection, "infer", "mnist_mlp", values)


def test_a_call_after_close_is_refused(connection: Connection) -> None:
    with Client(connection) as client:
        client.server()
    for method, arguments in CALLS.items():
        with pytest.raises(InvalidInput, match="closed"):
            getattr(client, method)(*arguments)

    async def closed() -> None:
        async with AsyncClient(connection) as opened:
            await opened.server()
        await opened.server()

    with pytest.raises(InvalidInput, match="within `async with`"):
        asyncio.run(closed())


def test_commands_say_it_in_one_line(command: Command, server: Server, protocol: Protocol) -> None:
    for address in (server.metrics, "127.0.0.1:99999", "a..b:80", "x" * 70 + ".example:80"):
        for name in ("clients.status", "clients.classify", "loadtest.run"):
            arguments = {
                "clients.status": (),
                "clients.classify": ("build/samples",),
                "loadtest.run": ("m", "--rate", "5"),
            }
            done = command(name, *arguments[name], "--protocol", protocol, "--url", address)
            assert done.returncode == 2 and done.stderr.startswith("error: "), done.stderr
            assert done.stderr.count("\n") == 1 and not done.stdout


def test_a_thread_that_ends_leaves_no_descriptor_behind(server: Server) -> None:
    program = """
import os, sys, threading
from clients.client import Client
from clients.connection import Connection
with Client(Connection("http", sys.argv[1])) as client:
    counts = []
    for _ in range(3):
        threads = [threading.Thread(target=client.server) for _ in range(20)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        counts.append(len(os.listdir("/proc/self/fd")))
sys.exit(len(set(counts)) - 1)
"""
    assert subprocess.run([sys.executable, "-c", program, server.http], cwd=ROOT, timeout=60).returncode == 0
