"""When gRPC goes through the environment's proxy, and what the channel is told."""

import pytest

from clients.connection import Connection
from clients.proxies import grpc_proxy
from clients.wire import channel_options


@pytest.fixture(autouse=True)
def company(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("grpc_proxy", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://me:secret@proxy.example:3128")


@pytest.mark.parametrize("url", ["127.0.0.1:8001", "127.8.8.8:1", "localhost:8001", "[::1]:8001", "a.localhost:1"])
def test_loopback_never_goes_through_a_proxy(url: str) -> None:
    assert grpc_proxy(url) is None
    assert ("grpc.enable_http_proxy", 0) in channel_options(Connection("grpc", url).url)


@pytest.mark.parametrize("url", ["triton.example:8001", "10.1.2.3:8001", "[2001:db8::1]:8001"])
def test_other_hosts_do_and_the_proxy_is_named_without_its_password(url: str) -> None:
    assert grpc_proxy(url) == "$http_proxy (proxy.example:3128)"
    assert ("grpc.enable_http_proxy", 1) in channel_options(url)


@pytest.mark.parametrize(
    ("excepted", "url", "direct"),
    [
        ("*", "triton.example:8001", True),
        ("triton.example", "triton.example:8001", True),
        (".example, other", "triton.example:8001", True),
        ("example", "triton.example:8001", True),
        ("10.0.0.0/8", "10.1.2.3:8001", True),
        ("10.1.2.3", "10.1.2.3:8001", True),
        ("10.0.0.0/8", "11.1.2.3:8001", False),
        ("xample", "triton.example:8001", False),
        ("", "triton.example:8001", False),
    ],
)
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_no_proxy_is_honoured_as_elsewhere(
    name: str, excepted: str, url: str, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, excepted)
    assert (grpc_proxy(url) is None) == direct


def test_grpc_s_own_variable_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("grpc_proxy", "http://other:1")
    assert grpc_proxy("triton.example:8001") == "$grpc_proxy (other:1)"
    monkeypatch.setenv("grpc_proxy", "")
    assert grpc_proxy("triton.example:8001") == "$http_proxy (proxy.example:3128)"
