"""Where a server is and how to reach it: one frozen value, from flags, the environment or code."""

import argparse
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from clients.errors import InvalidInput

Protocol = Literal["http", "grpc"]
PROTOCOLS: tuple[Protocol, ...] = ("http", "grpc")
DEFAULT_URLS = {"http": "127.0.0.1:8000", "grpc": "127.0.0.1:8001"}
# A host name, an IPv4 address or an IPv6 address in brackets; HTTP may have a path in front of /v2.
ADDRESS = {"http": re.compile(r"(\[[^]]+\]|[^\s:/]+):\d+(/\S*)?"), "grpc": re.compile(r"(\[[^]]+\]|[^\s:/]+):\d+")}
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER_VALUE = re.compile(r"[\t -~]*")


@dataclass(frozen=True)
class Tls:
    """How to check the server's certificate, and the client's own for mutual TLS; paths of PEM files.

    Attributes:
        ca_file: the only certificates that may vouch for the server; None for those that this host trusts.
        cert_file: the client's own certificate; it may hold the key as well.
        key_file: the key of `cert_file`.
        insecure: do not check the server's certificate at all (HTTP only).

    Raises:
        InvalidInput: a key without its certificate.
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        if self.key_file and not self.cert_file:
            raise InvalidInput(f"key {self.key_file} comes without its certificate; give --cert-file as well")


@dataclass(frozen=True)
class Connection:
    """An address and how to talk to it.

    Attributes:
        url: HOST:PORT, without a scheme (HTTP: a path may follow); empty for the environment's, else Triton's own.
        timeout_s: deadline of one attempt, in seconds, from the connection to the last byte of the answer.
        retries: how often to try again when the server is unavailable.
        headers: sent with every request (gRPC: as metadata).
        tls: None for plain text.

    Raises:
        InvalidInput: one of these cannot be used.
    """

    protocol: Protocol = "http"
    url: str = ""
    timeout_s: float = 30.0
    retries: int = 2
    headers: Mapping[str, str] = field(default_factory=dict)
    tls: Tls | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", self.url or default_url(self.protocol))
        if not ADDRESS[self.protocol].fullmatch(self.url):
            raise InvalidInput(
                f"expected an address HOST:PORT, got '{self.url}'; leave a scheme out, use --tls for TLS"
            )
        if not 0 < self.timeout_s < math.inf:
            raise InvalidInput(f"expected a timeout of more than 0 seconds, got {self.timeout_s}; set --timeout")
        if self.retries < 0:
            raise InvalidInput(f"expected 0 or more retries, got {self.retries}; set --retries")
        for name, value in self.headers.items():
            if not HEADER_NAME.fullmatch(name) or not HEADER_VALUE.fullmatch(value):
                raise InvalidInput(f"expected a header of printable ASCII, without blanks in its name; got {name!r}")


def default_url(protocol: Protocol) -> str:
    """The address from TRITON_HTTP_URL or TRITON_GRPC_URL, else Triton's usual port on this host."""
    return os.environ.get(f"TRITON_{protocol.upper()}_URL") or DEFAULT_URLS[protocol]


def add_connection_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that every command that talks to a server has."""
    group = parser.add_argument_group("connection")
    group.add_argument("--protocol", choices=PROTOCOLS, default="http", help="(default: %(default)s)")
    group.add_argument(
        "--url", metavar="HOST:PORT", help="default: $TRITON_HTTP_URL or $TRITON_GRPC_URL, else 127.0.0.1:8000 or :8001"
    )
    group.add_argument("--timeout", type=float, default=30.0, metavar="S", help="seconds per attempt (default: 30)")
    group.add_argument("--retries", type=int, default=2, help="when the server is unavailable (default: %(default)s)")
    group.add_argument("--header", action="append", default=[], metavar="NAME=VALUE", help="sent with every request")
    group.add_argument("--tls", action="store_true", help="use TLS")
    group.add_argument("--ca-file", metavar="PEM", help="certificates that vouch for the server")
    group.add_argument("--cert-file", metavar="PEM", help="the client's certificate, for mutual TLS")
    group.add_argument("--key-file", metavar="PEM", help="the client's private key")
    group.add_argument("--insecure", action="store_true", help="do not check the server's certificate (HTTP only)")


def connection_from(arguments: argparse.Namespace) -> Connection:
    """A connection from the options above.

    Raises:
        InvalidInput: a header is not NAME=VALUE, or an option cannot be used.
    """
    wants_tls = any((arguments.tls, arguments.ca_file, arguments.cert_file, arguments.key_file, arguments.insecure))
    tls = Tls(arguments.ca_file, arguments.cert_file, arguments.key_file, arguments.insecure) if wants_tls else None
    return Connection(
        protocol=arguments.protocol,
        url=arguments.url or "",
        timeout_s=arguments.timeout,
        retries=arguments.retries,
        headers=dict(header_pair(text) for text in arguments.header),
        tls=tls,
    )


def header_pair(text: str) -> tuple[str, str]:
    """Split NAME=VALUE."""
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise InvalidInput(f"expected a header NAME=VALUE, got '{text}'")
    return name.strip(), value.strip()
