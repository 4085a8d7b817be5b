"""Ports of the embedded server: chosen before it starts; then, whether it is really our server that answers."""

import errno
import http.client
import socket
from contextlib import ExitStack

from tools.serve.server_error import ServerError


def choose_ports(host: str, wanted: tuple[int, int, int]) -> list[int]:
    """Choose the ports for HTTP, gRPC and metrics; a free port replaces each 0.

    All three are bound at once, so that they differ.

    Raises:
        ServerError: a port is taken or invalid.
    """
    names = ("http", "grpc", "metrics")
    given = [port for port in wanted if port]
    if len(set(given)) < len(given):
        raise ServerError("--http-port, --grpc-port and --metrics-port must differ; got " + ", ".join(map(str, wanted)))
    with ExitStack() as held:
        return [
            held.enter_context(_bind(host, port, name)).getsockname()[1]
            for name, port in zip(names, wanted, strict=True)
        ]


def _bind(host: str, port: int, name: str) -> socket.socket:
    if not 0 <= port <= 65535:
        raise ServerError(f"--{name}-port: expected 1 to 65535, or 0 for any free port; got {port}")
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        holder.bind((host, port))
    except OSError as error:
        holder.close()
        remedy = f"choose another with --{name}-port, or 0 for any free port"
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            remedy = "give an IPv4 address of this host with --host, or 0.0.0.0 for all"
        raise ServerError(f"cannot listen on {host}:{port} ({error.strerror}); {remedy}") from error
    return holder


def is_ready(address: str) -> bool:
    """Ask whether the server at HOST:PORT reports itself and all its models ready."""
    # Not urllib's urlopen, which would obey a proxy in the environment.
    connection = http.client.HTTPConnection(address, timeout=1)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def port_of(address: str) -> int:
    """Return the port of HOST:PORT."""
    return int(address.rpartition(":")[2])


def listens(pid: int, port: int) -> bool:
    """Ask whether this process, and not another one, listens on a TCP port."""
    import psutil

    try:
        connections = psutil.Process(pid).net_connections(kind="tcp")
    except psutil.Error:  # It has just ended.
        return False
    return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in connections)
