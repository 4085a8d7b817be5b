"""What is made for a front door, and what is refused before HAProxy starts."""

from pathlib import Path

import pytest

from tests.conftest import Command
from tools.front.certificates import write_authority, write_certificate
from tools.front.options import FrontError, FrontOptions


def test_further_certificates_are_of_the_authority_that_callers_trust_already(tmp_path: Path, command: Command) -> None:
    for host in ("127.0.0.1", "door.example"):
        assert command("tools.front", "certificates", tmp_path, "--host", host).returncode == 0
        authority, server = ((tmp_path / name).read_bytes() for name in ("ca.pem", "server.pem"))
        if host == "127.0.0.1":
            first = authority, server
    assert authority == first[0] and server != first[1]


def test_a_server_with_a_blank_in_its_name_gets_no_certificate(tmp_path: Path) -> None:
    write_authority(tmp_path)
    with pytest.raises(FrontError, match="--host: expected a name or an address, got 'a door'"):
        write_certificate(tmp_path, "server", ["a door"])
    assert not (tmp_path / "server.pem").exists()


def test_a_certificate_without_a_private_key_is_refused_and_the_option_named(tmp_path: Path) -> None:
    write_authority(tmp_path)
    certificate, key = tmp_path / "ca.pem", tmp_path / "ca.key"
    with pytest.raises(FrontError, match="ca.pem holds no private key; add --tls-key PEM"):
        FrontOptions(front="127.0.0.1:0", tls_cert=certificate)
    FrontOptions(front="127.0.0.1:0", tls_cert=certificate, tls_key=key)
    certificate.write_bytes(certificate.read_bytes() + key.read_bytes())
    FrontOptions(front="127.0.0.1:0", tls_cert=certificate)
