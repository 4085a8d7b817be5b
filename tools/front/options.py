"""What stands behind the door, and how it is to be: one frozen value each, from options or code."""

import argparse
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

from clients.command import address, duration, positive
from clients.errors import ToolError


class FrontError(ToolError):
    """The door cannot be opened, or a key or certificate is not usable; the message says why and what to do."""


@dataclass(frozen=True)
class Backend:
    """A tritonserver: its name, HOST:PORT of both protocols, and the port of its agent (0: there is none)."""

    name: str
    http: str
    grpc: str
    agent_port: int = 0
    is_shared: bool = False  # the host's name has several addresses; each backend of that name takes another one


@dataclass(frozen=True, kw_only=True)
class FrontOptions:
    """Where the door is, who may pass, and what passes.

    Raises:
        FrontError: two options do not go together, or a file does not exist.
    """

    front: str  # HOST:PORT for callers
    operator: str = "127.0.0.1:8004"  # for operators and Prometheus
    tls_cert: Path | None = None
    tls_key: Path | None = None  # None: the key is in the certificate's file
    client_ca: Path | None = None  # whose certificates callers must show
    api_keys: Path | None = None  # hashes, see tools.front.keys
    access_log: Path | None = None
    in_flight: int = 16  # of each replica and protocol
    queue: int = 4  # requests that wait for one of them
    max_body: int = 64  # MiB
    inspect: int = 24  # KiB that are read and looked into before a request passes
    request_timeout: float = 10.0  # seconds for what the door reads of a request to arrive in
    router: str | None = None  # HOST:PORT of clients.router, which gets inferences over HTTP, and OpenAI's API
    router_grpc: str | None = None  # HOST:PORT of the same router, which gets inferences over gRPC, except streams
    # Not from the command line: HOST:PORT of a server of OpenAI's API, and where the door lets it ask any replica.
    openai: str | None = None
    inner: str | None = None

    def __post_init__(self) -> None:
        if (self.tls_key or self.client_ca) and not self.tls_cert:
            raise FrontError("--tls-key and --client-ca need the server's certificate; add --tls-cert")
        for name in ("tls_cert", "tls_key", "client_ca", "api_keys"):
            path = getattr(self, name)
            if path and not path.is_file():
                raise FrontError(
                    f"--{name.replace('_', '-')}: {path} does not exist; `python -m tools.front` makes one"
                )
        if self.tls_cert and not self.tls_key and b"PRIVATE KEY-----" not in self.tls_cert.read_bytes():
            raise FrontError(f"--tls-cert: {self.tls_cert} holds no private key; add --tls-key PEM")


def add_front_arguments(parser: argparse.ArgumentParser, required: bool = False) -> None:
    """Add the options that `front_options_from` reads."""
    add = parser.add_argument_group("front door (HAProxy)").add_argument
    place = partial(add, type=address, metavar="HOST:PORT")
    place("--front", required=required, help="one port for HTTP and gRPC; port 0 for any free one")
    place("--operator", default=FrontOptions.operator, help="the operators' and metrics")
    path = partial(add, type=Path, metavar="PEM")
    path("--tls-cert", help="the certificate to show, with its chain")
    path("--tls-key", help="its private key, unless --tls-cert holds it as well")
    path("--client-ca", help="let in only callers with a certificate of this authority")
    add("--api-keys", type=Path, metavar="FILE", help="let in only callers with a key (python -m tools.front keys)")
    add("--access-log", type=Path, metavar="FILE", help="append a line of JSON for each request")
    number = partial(add, type=positive, metavar="N")
    number("--in-flight", default=FrontOptions.in_flight, help="requests at once in a replica")
    number("--queue", default=FrontOptions.queue, help="requests that wait; more are refused")
    number("--max-body", default=FrontOptions.max_body, help="MiB of a request")
    number("--inspect", default=FrontOptions.inspect, help="KiB that JSON must fit in; more is slower")
    text = "for a request to arrive in, or its first part"
    add("--request-timeout", type=duration, default=FrontOptions.request_timeout, metavar="S", help=text)
    place("--router", help="a running clients.router, for inferences over HTTP and for OpenAI's API")
    place("--router-grpc", help="where it listens for inferences over gRPC")


def front_options_from(arguments: argparse.Namespace) -> FrontOptions | None:
    """The options of `add_front_arguments`; None without --front.

    Raises:
        FrontError: they do not go together.
    """
    names = [field.name for field in fields(FrontOptions)]
    values = {name: getattr(arguments, name) for name in names if name in arguments}
    if arguments.front is None:
        belonging = ("tls_cert", "client_ca", "api_keys", "access_log", "router", "router_grpc")
        if given := [name for name in belonging if values[name]]:
            raise FrontError(f"--{given[0].replace('_', '-')} belongs to the front door; add --front HOST:PORT")
        return None
    return FrontOptions(**values)
