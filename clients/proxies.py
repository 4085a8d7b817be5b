"""The proxy of the environment, which gRPC alone obeys: Triton's HTTP clients connect directly."""

import ipaddress
import os
from contextlib import suppress
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

# In the order in which gRPC looks; it knows the lower-case names only.
_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")


def grpc_proxy(url: str) -> str | None:
    """The proxy for a server at HOST:PORT, as "$https_proxy (HOST:PORT)"; None if gRPC is to connect directly."""
    variable = next((name for name in _VARIABLES if os.environ.get(name)), None)
    host = url.rpartition(":")[0].strip("[]")
    if variable is None or is_loopback(host) or _is_excepted(host):
        return None
    return f"${variable} ({urlsplit(os.environ[variable]).netloc.rpartition('@')[2]})"  # without a password


def is_loopback(host: str) -> bool:
    """Whether a host is this one, by its name or address; no name server is asked."""
    with suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return host == "localhost" or host.endswith(".localhost")


def _is_excepted(host: str) -> bool:
    """Whether no_proxy names a host, as curl and Python read it; networks (10.0.0.0/8) as gRPC does."""
    if proxy_bypass(host):
        return True
    excepted = os.environ.get("no_proxy", os.environ.get("NO_PROXY", ""))
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        return any(address in network for network in map(_network, excepted.split(",")) if network)
    return False


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    with suppress(ValueError):
        return ipaddress.ip_network(text.strip(), strict=False)
    return None
