"""Deadlines, retries and servers that are down, silent, slow or something else, against real sockets."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from clients.aio import AsyncClient
from clients.client import Client
from clients.connection import Connection, Protocol
from clients.errors import ConnectionLost, DeadlineExceeded, ServerFailed, ServerUnavailable
from tests.e2e.peers import (
    STYLES,
    Forward,
    ask,
    drip,
    forwarding,
    free_address,
    hang_up,
    listening,
    nobody,
    silence,
    together,
)
from tools.serve.tritonserver import Options, Server

in_both_styles = pytest.mark.parametrize("style", STYLES)


@in_both_styles
@pytest.mark.parametrize("method", ["server", "models", "statistics"])
def test_waiting_for_a_silent_server_ends_at_the_deadline(style: str, protocol: Protocol, method: str) -> None:
    with listening(silence) as address:
        begun = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=address):
            ask(style, Connection(protocol, address, timeout_s=0.3, retries=100), method)
        # Not asked again, which would take half a minute: the deadline was the caller's own.
        assert 0.25 < time.monotonic() - begun < 20


@in_both_styles
def test_a_silent_server_is_not_ready(style: str, protocol: Protocol) -> None:
    with listening(silence) as address:
        assert ask(style, Connection(protocol, address, timeout_s=0.2), "is_ready") is False


@in_both_styles
def test_the_deadline_also_limits_an_answer_that_arrives_byte_by_byte(style: str) -> None:
    with listening(drip) as address:
        begun = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="no answer within 0.4 s"):
            ask(style, Connection("http", address, timeout_s=0.4), "server")
        assert time.monotonic() - begun < 8


@in_both_styles
def test_a_server_that_is_down_is_an_error_with_its_address_and_the_remedy(style: str, protocol: Protocol) -> None:
    address = nobody()
    connection = Connection(protocol, address)
    with pytest.raises(ServerUnavailable, match=rf"no server answers at {protocol}://{address} .*tools\.serve"):
        ask(style, connection, "infer", "mnist_mlp", [[0.0]])
    assert ask(style, connection, "is_ready") is False


@in_both_styles
def test_an_unknown_host_is_an_error_with_its_name(style: str, protocol: Protocol) -> None:
    with pytest.raises(ServerUnavailable, match=r"nobody\.invalid"):
        ask(style, Connection(protocol, "nobody.invalid:8000", retries=0, timeout_s=60), "server")


@in_both_styles
@pytest.mark.parametrize("retries", [0, 3])
def test_a_broken_connection_is_retried_as_often_as_requested(style: str, retries: int) -> None:
    accepted = []

    def count(connection: socket.socket, number: int) -> None:
        # Read the request first: a close with unread data would be a reset.
        connection.recv(65536)
        accepted.append(number)

    with listening(count) as address, pytest.raises(ServerUnavailable, match=address):
        ask(style, Connection("http", address, retries=retries), "server")
    # The HTTP libraries themselves may repeat a GET, which changes nothing on the server: at least one each attempt.
    assert len(accepted) >= retries + 1
    assert (len(accepted) > 4) == (retries > 0)


@in_both_styles
def test_an_inference_is_not_repeated_after_its_connection_broke(style: str, server: Server) -> None:
    posted = []

    class Breaking(Forward):
        upstream = server.http

        def do_POST(self) -> None:  # noqa: N802
            posted.append(self.path)
            self.close_connection = True

    with forwarding(Breaking) as address, pytest.raises(ConnectionLost, match="inference of mnist_mlp at http://"):
        ask(style, Connection("http", address, retries=5), "infer", "mnist_mlp", np.zeros((1, 784), np.float32))
    assert posted == ["/v2/models/mnist_mlp/infer"]


@in_both_styles
def test_over_grpc_a_broken_connection_is_unavailable_too(style: str) -> None:
    with listening(hang_up) as address, pytest.raises(ServerUnavailable, match=address):
        ask(style, Connection("grpc", address, retries=1), "server")


def test_grpc_does_not_delay_a_reconnection() -> None:
    attempts = []
    with (
        listening(lambda _, number: attempts.append(number)) as address,
        Client(Connection("grpc", address, retries=0)) as client,
    ):
        for _ in range(3):
            with pytest.raises(ServerUnavailable):
                client.server()
            # By default a channel fails for a second, then for longer and longer, without trying.
            time.sleep(0.65)
    assert len(attempts) >= 3


@in_both_styles
def test_an_error_of_the_server_is_not_retried(style: str) -> None:
    requests = []

    def fail(connection: socket.socket, number: int) -> None:
        requests.append(connection.recv(65536))
        connection.sendall(b'HTTP/1.1 500 Failed\r\nContent-Length: 18\r\n\r\n{"error":"broken"}')
        connection.shutdown(socket.SHUT_WR)

    with listening(fail) as address, pytest.raises(ServerFailed, match="server metadata at http://.*: broken"):
        ask(style, Connection("http", address, retries=5), "server")
    assert len(requests) == 1


@in_both_styles
@pytest.mark.parametrize("wait", [0.0, 0.4])
def test_a_server_that_starts_during_the_retries_is_reached(
    style: str, protocol: Protocol, wait: float, repository: Path
) -> None:
    address = free_address()
    connection = Connection(protocol, address, retries=30)
    port = {f"{protocol}_port": int(address.split(":")[1])}
    options = Options(repository, flags=("--model-control-mode=explicit",), **port)  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, style, connection, "server")
        time.sleep(wait)
        assert not asked.done()
        with Server(options):
            assert asked.result(timeout=60)["name"] == "triton"


@in_both_styles
def test_a_port_of_the_other_protocol_is_an_error(style: str, protocol: Protocol, server: Server) -> None:
    wrong = server.grpc if protocol == "http" else server.http
    with pytest.raises(ServerUnavailable, match="check .*--protocol"):
        ask(style, Connection(protocol, wrong, retries=0, timeout_s=60), "server")


def late_first_answer(released: threading.Event) -> Callable[[socket.socket, int], None]:
    """Answer every request with its number; the first one only when released."""
    lock, served = threading.Lock(), [0]

    def answer(connection: socket.socket, _: int) -> None:
        while connection.recv(65536):
            with lock:
                number, served[0] = served[0], served[0] + 1
            if number == 0:
                released.wait()
            connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{"name":"r-%d"}' % number)

    return answer


def test_a_late_answer_is_not_taken_for_the_next_one() -> None:
    released = threading.Event()
    with (
        listening(late_first_answer(released)) as address,
        Client(Connection("http", address, timeout_s=1.5)) as client,
    ):
        with pytest.raises(DeadlineExceeded):
            client.server()
        released.set()
        assert [client.server()["name"] for _ in range(2)] == ["r-1", "r-2"]


def test_many_asyncio_requests_are_in_flight_at_once(protocol: Protocol) -> None:
    async def gather(address: str) -> list[bool]:
        async with AsyncClient(Connection(protocol, address, retries=0)) as client:
            return await asyncio.gather(*(client.is_ready() for _ in range(50)))

    with together(protocol, 50) as address:
        assert all(asyncio.run(gather(address)))
