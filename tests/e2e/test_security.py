"""Headers that open restricted endpoints, TLS and mutual TLS: what passes, and how clear a refusal is.

gRPC talks to tritonserver's own TLS; its HTTP has none, so that it stands behind a small TLS proxy as it would in
production. The servers load one model.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from clients.connection import Connection, Protocol, Tls
from clients.errors import ClientError, InvalidInput, RequestRejected, ServerUnavailable, TlsFailed
from tests.conftest import Command, served
from tests.e2e.peers import STYLES, ask, certificates, tls_proxy
from tools.serve.tritonserver import Options, Server

MODEL, IMAGE = "mnist_mlp", np.zeros((1, 784), np.float32)
# Over gRPC, Triton puts a prefix in front of the header's name.
SESAME = {"http": {"X-Key": "sesame"}, "grpc": {"triton-grpc-protocol-X-Key": "sesame"}}


@pytest.fixture(scope="module")
def small_repository(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    shutil.copytree(built / MODEL, folder / MODEL)
    return folder


@pytest.fixture(scope="module")
def restricted(small_repository: Path) -> Iterator[Server]:
    """A server whose inference and model list need a header."""
    guarded = "inference,model-repository:x-key=sesame"
    flags = (f"--http-restricted-api={guarded}", f"--grpc-restricted-protocol={guarded}")
    with served(Options(small_repository, flags=flags)) as running:
        yield running


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    certificates(folder)
    return folder


@pytest.fixture(scope="module", params=[False, True], ids=["tls", "mutual"])
def mutual(request: pytest.FixtureRequest) -> bool:
    """Whether the server wants a certificate of the client."""
    return bool(request.param)


@pytest.fixture(scope="module")
def grpc_tls_server(small_repository: Path, pki: Path, mutual: bool) -> Iterator[Server]:
    files = {"server-cert": "server.pem", "server-key": "server.key", "root-cert": "ca.pem"}
    flags = [f"--grpc-{name}={pki / file}" for name, file in files.items()]
    flags += ["--grpc-use-ssl=1", f"--grpc-use-ssl-mutual={int(mutual)}"]
    with served(Options(small_repository, flags=flags)) as running:
        yield running


@pytest.fixture
def secure(grpc_tls_server: Server, protocol: Protocol, pki: Path, mutual: bool) -> Iterator[str]:
    """The address of a TLS endpoint of either protocol."""
    with address_of(grpc_tls_server, protocol, pki, mutual) as address:
        yield address


@contextmanager
def address_of(server: Server, protocol: Protocol, pki: Path, mutual: bool) -> Iterator[str]:
    if protocol == "grpc":
        yield server.grpc
    else:
        with tls_proxy(server.http, pki, mutual) as address:
            yield address


def tls(pki: Path, ca: str = "ca", client: str | None = None) -> Tls:
    own = {"cert_file": str(pki / f"{client}.pem"), "key_file": str(pki / f"{client}.key")} if client else {}
    return Tls(ca_file=str(pki / f"{ca}.pem"), cert_file=own.get("cert_file"), key_file=own.get("key_file"))


def probability(style: str, connection: Connection) -> float:
    """Really run the model."""
    return float(ask(style, connection, "classify", MODEL, IMAGE)[0][0].probability)


@pytest.mark.parametrize("style", STYLES)
def test_the_right_header_gives_access_to_restricted_endpoints(
    restricted: Server, protocol: Protocol, style: str
) -> None:
    connection = Connection(protocol, restricted.address(protocol), headers=SESAME[protocol])
    assert 0.1 <= probability(style, connection) <= 1
    assert [model["name"] for model in ask(style, connection, "models")] == [MODEL]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("value", [None, "wrong"])
def test_without_the_right_header_the_error_names_it(
    restricted: Server, protocol: Protocol, style: str, value: str | None
) -> None:
    headers = dict.fromkeys(SESAME[protocol], value) if value else {}
    connection = Connection(protocol, restricted.address(protocol), headers=headers)
    for method, arguments in (("models", ()), ("infer", (MODEL, IMAGE))):
        with pytest.raises(RequestRejected, match="is restricted, expecting header '.*x-key'"):
            ask(style, connection, method, *arguments)
    assert ask(style, connection, "is_ready") is True


def test_the_commands_send_headers(restricted: Server, protocol: Protocol, command: Command) -> None:
    ((name, value),) = SESAME[protocol].items()
    status = command("clients.status", "--protocol", protocol, "--header", f"{name}={value}", server=restricted)
    assert status.returncode == 0 and MODEL in status.stdout
    refused = command("clients.status", "--protocol", protocol, server=restricted)
    assert refused.returncode == 2 and "expecting header" in refused.stderr


@pytest.mark.parametrize("style", STYLES)
def test_over_tls_the_right_certificates_pass(
    secure: str, protocol: Protocol, pki: Path, mutual: bool, style: str
) -> None:
    connection = Connection(protocol, secure, tls=tls(pki, client="client" if mutual else None))
    assert 0.1 <= probability(style, connection) <= 1


@pytest.mark.parametrize("style", STYLES)
def test_one_file_may_contain_the_client_s_certificate_and_its_key(
    secure: str, protocol: Protocol, pki: Path, style: str, tmp_path: Path
) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes((pki / "client.key").read_bytes() + (pki / "client.pem").read_bytes())
    connection = Connection(protocol, secure, tls=Tls(ca_file=str(pki / "ca.pem"), cert_file=str(both)))
    assert 0.1 <= probability(style, connection) <= 1


@pytest.mark.parametrize("style", STYLES)
def test_a_server_certificate_of_another_authority_is_refused(
    secure: str, protocol: Protocol, pki: Path, mutual: bool, style: str
) -> None:
    connection = Connection(protocol, secure, tls=tls(pki, ca="other", client="client" if mutual else None))
    with pytest.raises(TlsFailed, match=r"(?i)certificate.verify.failed"):
        probability(style, connection)
    with pytest.raises(TlsFailed):
        ask(style, connection, "is_ready")


@pytest.mark.parametrize("style", STYLES)
def test_a_given_authority_replaces_those_of_this_host(
    secure: str, protocol: Protocol, pki: Path, mutual: bool, style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if protocol == "http":
        # What OpenSSL takes for the host's own authorities.
        monkeypatch.setenv("SSL_CERT_FILE", str(pki / "ca.pem"))
        monkeypatch.setattr(
            "geventhttpclient.connectionpool.SSLConnectionPool.default_options", {"ca_certs": str(pki / "ca.pem")}
        )
    with pytest.raises(TlsFailed):
        probability(style, Connection(protocol, secure, tls=tls(pki, ca="other")))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("client", [None, "other"])
def test_mutual_tls_refuses_a_client_without_a_certificate_of_its_authority(
    secure: str, protocol: Protocol, pki: Path, mutual: bool, style: str, client: str | None
) -> None:
    connection = Connection(protocol, secure, retries=0, tls=tls(pki, client=client))
    if not mutual:
        assert 0.1 <= probability(style, connection) <= 1
        return
    with pytest.raises((TlsFailed, ServerUnavailable), match="TLS|--cert-file") as caught:
        probability(style, connection)
    assert secure in str(caught.value)


@pytest.mark.parametrize("style", STYLES)
def test_plain_text_to_a_tls_port_and_tls_to_a_plain_port_are_errors(
    secure: str, grpc_tls_server: Server, protocol: Protocol, pki: Path, style: str
) -> None:
    with pytest.raises(ClientError, match="TLS"):
        ask(style, Connection(protocol, secure, retries=0, timeout_s=5), "server")
    with pytest.raises(ClientError, match="TLS|WRONG_VERSION|--ca-file"):
        ask(style, Connection(protocol, grpc_tls_server.http, retries=0, timeout_s=5, tls=tls(pki)), "server")


@pytest.mark.parametrize("style", STYLES)
def test_only_http_can_skip_verification(secure: str, protocol: Protocol, mutual: bool, style: str) -> None:
    connection = Connection(protocol, secure, retries=0, tls=Tls(insecure=True))
    if protocol == "grpc":
        with pytest.raises(InvalidInput, match="gRPC always checks"):
            probability(style, connection)
    elif not mutual:
        assert 0.1 <= probability(style, connection) <= 1


def test_the_commands_take_certificates_as_files(
    secure: str, protocol: Protocol, pki: Path, mutual: bool, command: Command
) -> None:
    own = ("--cert-file", pki / "client.pem", "--key-file", pki / "client.key") if mutual else ()
    arguments = ("--protocol", protocol, "--url", secure, "--ca-file", pki / "ca.pem", *own)
    assert command("clients.status", *arguments).returncode == 0
    missing = command("clients.status", "--protocol", protocol, "--url", secure, "--ca-file", pki / "gone.pem")
    assert missing.returncode == 2 and f"cannot use {pki / 'gone.pem'} for TLS" in missing.stderr
