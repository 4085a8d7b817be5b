"""Where a server is and how to reach it: one frozen value, from options, the environment or code."""

import argparse
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from clients.errors import InvalidInput

Protocol = Literal["http", "grpc"]
PROTOCOLS: tuple[Protocol, ...] = ("http", "grpc")
# A host name, an IPv4 address or an IPv6 address in brackets; HTTP may have a path in front of /v2.
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[^]\s:/@?#[]+):([0-9]{1,5})(/[!-~]*)?")
_HEADER_NAME, _HEADER_VALUE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"), re.compile(r"[\t -~]*")


@dataclass(frozen=True)
class Tls:
    """How to verify the server's certificate, and the client's own certificate for mutual TLS; files are PEM.

    Raises:
        InvalidInput: `key_file` is given without `cert_file`.
    """

    ca_file: str | None = None  # the only certificate authorities to trust; None for those of this host
    cert_file: str | None = None  # the client's certificate; it may contain the private key as well
    key_file: str | None = None
    insecure: bool = False  # accept any server certificate (HTTP only)

    def __post_init__(self) -> None:
        if self.key_file and not self.cert_file:
            raise InvalidInput(f"key {self.key_file} comes without its certificate; add --cert-file")


@dataclass(frozen=True)
class Connection:
    """The address of a server and the options of every request to it.

    Raises:
        InvalidInput: a value is not usable.
    """

    protocol: Protocol = "http"
    # HOST:PORT, without a scheme (for HTTP, a path may follow); if empty, the address comes from the environment
    # variable TRITON_HTTP_URL or TRITON_GRPC_URL, or is Triton's default port on this host.
    url: str = ""
    timeout_s: float = 30.0  # deadline of one attempt, from opening the connection to the last byte of the response
    retries: int = 2  # further attempts while the server is unavailable
    headers: Mapping[str, str] = field(default_factory=dict)  # sent with every request (gRPC: as metadata)
    tls: Tls | None = None

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise InvalidInput(f"expected the protocol http or grpc, got '{self.protocol}'")
        object.__setattr__(self, "url", self.url or default_url(self.protocol))
        if not is_address(self.url, self.protocol):
            raise InvalidInput(
                f"expected an address HOST:PORT with a port up to 65535, got '{self.url}'; drop the scheme, and use "
                "--tls for TLS"
            )
        if not 0 < self.timeout_s < math.inf:
            raise InvalidInput(f"expected a timeout of more than 0 seconds, got {self.timeout_s}; set --timeout")
        if self.retries < 0:
            raise InvalidInput(f"expected 0 or more retries, got {self.retries}; set --retries")
        for name, value in self.headers.items():
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
                raise InvalidInput(f"expected a header of printable ASCII without spaces in its name, got {name!r}")


def is_address(url: str, protocol: Protocol = "grpc") -> bool:
    """Whether a text is HOST:PORT (for HTTP, a path may follow) with a host and a port that can be."""
    match = _ADDRESS.fullmatch(url)
    if match is None or int(match[2]) > 65535 or (match[3] and protocol == "grpc"):
        return False
    try:
        match[1].strip("[]").encode("idna")  # Names with empty or very long parts are none.
    except UnicodeError:
        return False
    return True


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of HOST:PORT, an IPv6 address without its brackets; a path in front of /v2 is left out."""
    host, _, port = address.partition("/")[0].rpartition(":")
    return host.strip("[]"), int(port)


def at_port(address: str, port: int) -> str:
    """The same host at another port."""
    return f"{address.partition('/')[0].rpartition(':')[0]}:{port}"


def default_url(protocol: Protocol) -> str:
    """The address from TRITON_HTTP_URL or TRITON_GRPC_URL, else Triton's default port on this host."""
    port = {"http": 8000, "grpc": 8001}[protocol]
    return os.environ.get(f"TRITON_{protocol.upper()}_URL") or f"127.0.0.1:{port}"


def add_connection_arguments(
    parser: argparse.ArgumentParser,
    timeout_s: float = Connection.timeout_s,
    retries: int | None = Connection.retries,
    protocols: Sequence[str] = PROTOCOLS,
) -> None:
    """Add the options that `connection_from` reads, with these defaults.

    With None in place of `retries`, for a command that never retries, the option is not offered.
    """
    group = parser.add_argument_group("connection")
    group.add_argument("--protocol", choices=protocols, default="http", help="(default: %(default)s)")
    group.add_argument(
        "--url", metavar="HOST:PORT", help="default: $TRITON_HTTP_URL or $TRITON_GRPC_URL, else 127.0.0.1:8000 or :8001"
    )
    group.add_argument(
        "--timeout", type=float, default=timeout_s, metavar="S", help="seconds per attempt (default: %(default)g)"
    )
    if retries is not None:
        text = "further attempts while the server is unavailable (default: %(default)s)"
        group.add_argument("--retries", type=int, default=retries, metavar="N", help=text)
    group.add_argument("--header", action="append", default=[], metavar="NAME=VALUE", help="sent with every request")
    group.add_argument("--tls", action="store_true", help="use TLS")
    group.add_argument("--ca-file", metavar="PEM", help="certificate authorities that may vouch for the server")
    group.add_argument("--cert-file", metavar="PEM", help="the client's certificate, for mutual TLS")
    group.add_argument("--key-file", metavar="PEM", help="the client's private key")
    group.add_argument("--insecure", action="store_true", help="accept any server certificate (HTTP only)")


def connection_from(arguments: argparse.Namespace) -> Connection:
    """The connection that the options of `add_connection_arguments` describe; without --retries, none are made.

    Raises:
        InvalidInput: a header is not NAME=VALUE, or a value is not usable.
    """
    tls = (arguments.ca_file, arguments.cert_file, arguments.key_file, arguments.insecure)
    return Connection(
        arguments.protocol,
        arguments.url or "",
        arguments.timeout,
        getattr(arguments, "retries", 0),
        headers_from(arguments.header),
        Tls(*tls) if arguments.tls or any(tls) else None,
    )


def headers_from(texts: Sequence[str]) -> dict[str, str]:
    """Read the values of --header; raises InvalidInput if one is not NAME=VALUE."""
    headers = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not name or not separator:
            raise InvalidInput(f"expected a header NAME=VALUE, got '{text}'")
        headers[name.strip()] = value.strip()
    return headers
