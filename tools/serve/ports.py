"""Ports of the embedded server: chosen before it starts, and whether it, and nobody else, answers on them."""

import errno
import http.client
import os
import socket
from contextlib import ExitStack
from pathlib import Path

from tools.serve.server_error import ServerError


def choose_ports(host: str, wanted: tuple[int, int, int]) -> list[int]:
    """The ports for HTTP, gRPC and metrics, free ones in place of zeros.

    They are held together while they are chosen, so that they differ.

    Raises:
        ServerError: a port is taken.
    """
    names = ("http", "grpc", "metrics")
    given = [port for port in wanted if port]
    if len(set(given)) < len(given):
        raise ServerError("--http-port, --grpc-port and --metrics-port must differ; got " + ", ".join(map(str, wanted)))
    with ExitStack() as held:
        return [
            held.enter_context(bind(host, port, name)).getsockname()[1]
            for name, port in zip(names, wanted, strict=True)
        ]


def bind(host: str, port: int, name: str) -> socket.socket:
    """A socket that holds a port."""
    if not 0 <= port <= 65535:
        raise ServerError(f"--{name}-port {port} is no port; give 1 to 65535, or 0 for any free one")
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        holder.bind((host, port))
    except OSError as error:
        holder.close()
        remedy = f"choose another with --{name}-port, 0 for any free one"
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            remedy = "give an IPv4 address of this host with --host, 0.0.0.0 for all of them"
        raise ServerError(f"cannot listen on {host}:{port} ({error.strerror}); {remedy}") from error
    return holder


def is_ready(address: str) -> bool:
    """Whether a server at HOST:PORT says that it and all its models are ready."""
    # Not urllib's urlopen, which would ask the proxy that the environment may name.
    connection = http.client.HTTPConnection(address, timeout=1)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def port_of(address: str) -> int:
    """The port of HOST:PORT."""
    return int(address.rpartition(":")[2])


def listens(pid: int, port: int) -> bool:
    """Whether this very process, and not another one, listens on a TCP port."""
    try:
        own = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}
        rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    except OSError:  # It has just ended.
        return False
    listening = "0A"
    return any(
        row[3] == listening and int(row[1].rpartition(":")[2], 16) == port and f"socket:[{row[9]}]" in own
        for row in rows
    )
