"""Hosts and ports to listen at: chosen before a server starts; then, whether it is that server that listens."""

import errno
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import cycle

from clients.connection import host_and_port
from clients.errors import ToolError

_HOSTS = "give an address or a name of this host with --host, or 0.0.0.0 or :: for all"
# Where to reach a server that listens at all addresses.
ANY = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}


class PortError(ToolError):
    """Nobody can listen there: the port is taken or invalid, or the host is unknown or another one."""


def numeric_host(host: str) -> str:
    """The address of a host, an IPv6 one in brackets; tritonserver takes no names.

    Raises:
        PortError: nobody knows the host.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PortError(f"--host: '{host}' is no host that is known here ({reason}); {_HOSTS}") from error
    # Names such as localhost have both; IPv4 is what our default was always.
    *_, (address, *_) = min(found, key=lambda each: each[0] != socket.AF_INET)
    return f"[{address}]" if ":" in str(address) else str(address)


def choose_ports(host: str, wanted: Sequence[int]) -> list[int]:
    """Choose ports as `hold_ports` does, for somebody who takes them at once."""
    with ExitStack() as held:
        return [held.enter_context(each).getsockname()[1] for each in hold_ports(host, wanted)]


def hold_ports(host: str, wanted: Sequence[int]) -> list[socket.socket]:
    """Choose ports for HTTP, gRPC and metrics, of one server or of several; a free port replaces each 0.

    All are bound at once, so that they differ. Until its socket is closed, a port is nobody else's: a free one that was
    only looked up may be another process's by the time at which a server has loaded its models and listens. That server
    can listen there, because these sockets do not.

    Raises:
        PortError: a port is taken or invalid.
    """
    given = [port for port in wanted if port]
    if len(set(given)) < len(given):
        raise PortError("--http-port, --grpc-port and --metrics-port must differ; got " + ", ".join(map(str, wanted)))
    with ExitStack() as bound:
        names = cycle(("http", "grpc", "metrics"))
        held = [bound.enter_context(_bind(host, port, name)) for name, port in zip(names, wanted, strict=False)]
        bound.pop_all()
        return held


def _bind(host: str, port: int, name: str) -> socket.socket:
    if not 0 <= port <= 65535:
        raise PortError(f"--{name}-port: expected 1 to 65535, or 0 for any free port; got {port}")
    return _bound(host, port, f"choose another with --{name}-port, or 0 for any free port", _HOSTS)


def _bound(host: str, port: int, for_port: str, for_host: str) -> socket.socket:
    holder = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        holder.bind((host.strip("[]"), port))
    except (OSError, OverflowError) as error:  # The latter is a port above 65535.
        holder.close()
        is_host = isinstance(error, socket.gaierror) or getattr(error, "errno", 0) == errno.EADDRNOTAVAIL
        remedy, reason = for_host if is_host else for_port, getattr(error, "strerror", None) or error
        raise PortError(f"cannot listen on {host}:{port} ({reason}); {remedy}") from error
    return holder


def listens(pid: int, ports: set[int]) -> bool:
    """Ask whether this process, and not another one, listens on all these TCP ports."""
    import psutil

    try:
        connections = psutil.Process(pid).net_connections(kind="tcp")
    except psutil.Error:  # It has just ended.
        return False
    return ports <= {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}


def listening(address: str = "127.0.0.1:0") -> socket.socket:
    """A socket of this process's own, at HOST:PORT; port 0 takes a free one.

    Raises:
        PortError: the address is taken, or is none of this host.
    """
    host, port = host_and_port(address)
    remedy = "choose another address"
    listener = _bound(host, port, remedy, remedy)
    listener.listen()
    return listener


def address_of(listener: socket.socket) -> str:
    """HOST:PORT of a socket."""
    host, port, *_ = listener.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
