"""Addresses, deadlines, headers and TLS options: which are taken, from where, and which are refused at once."""

import argparse
from typing import Any

import pytest

from clients.connection import (
    PROTOCOLS,
    Connection,
    Protocol,
    Tls,
    add_connection_arguments,
    at_port,
    connection_from,
    host_and_port,
)
from clients.errors import InvalidInput


@pytest.fixture(autouse=True)
def no_addresses_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for protocol in PROTOCOLS:
        monkeypatch.delenv(f"TRITON_{protocol.upper()}_URL", raising=False)


def parsed(*arguments: str) -> Connection:
    parser = argparse.ArgumentParser()
    add_connection_arguments(parser)
    return connection_from(parser.parse_args(arguments))


@pytest.mark.parametrize(("protocol", "port"), [("http", 8000), ("grpc", 8001)])
def test_the_default_address_is_triton_s_port_on_this_host(protocol: Protocol, port: int) -> None:
    assert Connection(protocol).url == parsed("--protocol", protocol).url == f"127.0.0.1:{port}"


def test_an_option_overrides_the_environment_and_the_environment_overrides_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRITON_GRPC_URL", "environment:2")
    assert parsed("--protocol", "grpc").url == Connection("grpc").url == "environment:2"
    assert parsed("--protocol", "grpc", "--url", "flag:1").url == "flag:1"
    assert Connection("http").url == "127.0.0.1:8000"


@pytest.mark.parametrize("url", ["host:1", "127.0.0.1:8000", "[::1]:8000", "my-host.example:80", "host:1/triton/v1"])
def test_an_address_of_host_and_port_is_accepted(url: str) -> None:
    assert Connection("http", url).url == url


@pytest.mark.parametrize(
    ("address", "host", "other"),
    [
        ("my-host.example:80", "my-host.example", "my-host.example:81"),
        ("127.0.0.1:80", "127.0.0.1", "127.0.0.1:81"),
        ("[::1]:80", "::1", "[::1]:81"),
        ("[fe80::1%eth0]:80", "fe80::1%eth0", "[fe80::1%eth0]:81"),
    ],
)
def test_an_address_has_a_host_without_brackets_and_a_port(address: str, host: str, other: str) -> None:
    assert host_and_port(address) == host_and_port(f"{address}/triton/v1") == (host, 80)
    assert at_port(address, 81) == other


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_port_or_a_host_that_cannot_be_is_refused(protocol: Protocol) -> None:
    for url in ("host:65536", "host:99999", "a..b:1", "x" * 70 + ":1"):
        with pytest.raises(InvalidInput, match="HOST:PORT with a port up to 65535"):
            Connection(protocol, url)


@pytest.mark.parametrize("url", ["http://host:1", "host", "8000", ":8000", "host:port", "::1:8000", "ho st:1", "u@h:1"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_any_other_address_is_refused(protocol: Protocol, url: str) -> None:
    with pytest.raises(InvalidInput, match="expected an address HOST:PORT with a port up to 65535, got '"):
        Connection(protocol, url)


def test_another_protocol_is_refused() -> None:
    with pytest.raises(InvalidInput, match="expected the protocol http or grpc, got 'https'"):
        Connection("https", "host:1")  # type: ignore[arg-type]


def test_a_path_is_refused_over_grpc() -> None:
    with pytest.raises(InvalidInput, match="expected an address HOST:PORT"):
        Connection("grpc", "host:1/path")


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_an_impossible_deadline_is_refused(seconds: float) -> None:
    with pytest.raises(InvalidInput, match="expected a timeout of more than 0 seconds"):
        Connection(timeout_s=seconds)


def test_a_negative_number_of_retries_is_refused() -> None:
    with pytest.raises(InvalidInput, match="expected 0 or more retries, got -1; set --retries"):
        parsed("--retries", "-1")


def test_a_command_that_never_retries_does_not_offer_it(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_connection_arguments(parser, retries=None)
    assert connection_from(parser.parse_args([])).retries == 0
    with pytest.raises(SystemExit):
        parser.parse_args(["--retries", "1"])
    assert "unrecognized arguments: --retries 1" in capsys.readouterr().err


def test_help_shows_the_command_s_own_defaults() -> None:
    parser = argparse.ArgumentParser()
    add_connection_arguments(parser, timeout_s=300, retries=30)
    chosen = connection_from(parser.parse_args([]))
    assert (chosen.timeout_s, chosen.retries) == (300, 30)
    shown = " ".join(parser.format_help().split())
    assert "seconds per attempt (default: 300)" in shown and "unavailable (default: 30)" in shown


def test_headers_are_parsed_as_names_and_values() -> None:
    headers = parsed("--header", "X-Key=se=same", "--header", "authorization=Bearer token").headers
    assert headers == {"X-Key": "se=same", "authorization": "Bearer token"}


@pytest.mark.parametrize("text", ["name", "=value", "na me=value", "name=two\nlines", "name=ü"])
def test_an_invalid_header_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="expected a header"):
        parsed("--header", text)


@pytest.mark.parametrize(
    ("arguments", "tls"),
    [
        ((), None),
        (("--tls",), Tls()),
        (("--ca-file", "ca"), Tls(ca_file="ca")),
        (("--cert-file", "c"), Tls(cert_file="c")),
        (("--cert-file", "c", "--key-file", "k"), Tls(cert_file="c", key_file="k")),
        (("--insecure",), Tls(insecure=True)),
    ],
)
def test_each_tls_option_turns_tls_on(arguments: tuple[str, ...], tls: Tls | None) -> None:
    assert parsed(*arguments).tls == tls


def test_a_key_without_its_certificate_is_refused() -> None:
    with pytest.raises(InvalidInput, match="key k comes without its certificate; add --cert-file"):
        parsed("--key-file", "k")


def test_deadline_and_retries_are_passed_on() -> None:
    values: dict[str, Any] = vars(parsed("--timeout", "0.5", "--retries", "7"))
    assert (values["timeout_s"], values["retries"]) == (0.5, 7)
