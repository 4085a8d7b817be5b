"""Where the embedded server listens, by its options and flags, and whether it is ready there."""

import http.client
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from clients.connection import Connection, Protocol, host_and_port
from tools.serve.server_error import ServerError

NAMES = ("http", "grpc", "metrics")
_OFF = ("false", "off", "0")
_GRPC_PREFIX = "triton-grpc-protocol-"  # Triton's, of headers that open a restricted protocol


@dataclass(frozen=True)
class Endpoints:
    """HOST:PORT to connect to; empty where a flag turns the endpoint off."""

    http: str
    grpc: str
    metrics: str
    # The headers that open what flags restrict, by protocol.
    keys: Mapping[Protocol, dict[str, str]] = field(default_factory=dict)
    grpc_has_tls: bool = False  # with certificates that we do not know

    @property
    def addresses(self) -> dict[str, str]:
        """Those that there are, by name."""
        return {name: getattr(self, name) for name in NAMES if getattr(self, name)}

    @property
    def ports(self) -> set[int]:
        """The ports to listen on."""
        return {host_and_port(address)[1] for address in self.addresses.values()}

    def are_ready(self) -> bool:
        """Ask whether the server reports itself and all its models ready, over what is open to us.

        True where it cannot be asked: it opens its ports once its models are loaded.
        """
        if self.http:
            return self._is_ready_over_http()
        from clients.client import Client  # gRPC's module takes longer to import than `--help` should.

        connection = self.connection(1.0)
        if connection is None:
            return True
        with Client(connection) as client:
            return client.is_ready()

    def connection(self, timeout_s: float) -> Connection | None:
        """How to ask it, with the keys to what its flags restrict; None where only others' certificates open it."""
        if self.http:
            return Connection("http", self.http, timeout_s, 0, self.keys.get("http", {}))
        is_open = self.grpc and not self.grpc_has_tls
        return Connection("grpc", self.grpc, timeout_s, 0, self.keys.get("grpc", {})) if is_open else None

    def _is_ready_over_http(self) -> bool:
        # Not urllib's urlopen, which would obey a proxy in the environment.
        connection = http.client.HTTPConnection(self.http, timeout=1)
        try:
            connection.request("GET", "/v2/health/ready", headers=self.keys.get("http", {}))
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def endpoints(host: str, ports: Sequence[int], flags: Sequence[str]) -> Endpoints:
    """The endpoints at a host, HTTP's, gRPC's and metrics' port, as tritonserver's flags leave them.

    Raises:
        ServerError: they leave none.
    """
    if not any(is_allowed(name, flags) for name in NAMES):
        raise ServerError("--allow-http, --allow-grpc and --allow-metrics are all false: nobody could reach the server")
    http, grpc, metrics = (
        f"{host}:{port}" if is_allowed(name, flags) else "" for name, port in zip(NAMES, ports, strict=True)
    )
    keys: dict[Protocol, dict[str, str]] = {
        "http": _key(_values("http-restricted-api", flags), ""),
        "grpc": _key(_values("grpc-restricted-protocol", flags), _GRPC_PREFIX),
    }
    return Endpoints(http, grpc, metrics, keys, _is_on((_values("grpc-use-ssl", flags) or ["false"])[-1]))


def is_allowed(name: str, flags: Sequence[str]) -> bool:
    """Whether tritonserver's flags leave an endpoint on."""
    return _is_on((_values(f"allow-{name}", flags) or ["true"])[-1])


def _is_on(value: str) -> bool:
    return value.lower() not in _OFF


def _values(name: str, flags: Sequence[str]) -> list[str]:
    """The values of a flag, as --NAME=VALUE or --NAME VALUE."""
    return [
        flag.partition("=")[2] if "=" in flag else value
        for flag, value in zip(flags, (*flags[1:], ""), strict=False)
        if re.fullmatch(rf"--{name}(=.*)?", flag)
    ]


def _key(restrictions: Sequence[str], prefix: str) -> dict[str, str]:
    """The headers that open what is restricted, from restrictions such as "health,metadata:key=value"."""
    pairs = (restriction.partition(":")[2].partition("=") for restriction in restrictions)
    return {prefix + name: value for name, _, value in pairs if name}
