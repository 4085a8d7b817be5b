"""A certificate authority for tests and first steps, and certificates of it; a real one comes from elsewhere."""

import datetime
import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tools.front.options import FrontError

if TYPE_CHECKING:
    from cryptography import x509

AUTHORITY = "ca"
_HOST = re.compile(r"(\*\.)?[\w.-]+", re.ASCII)


def has_authority(folder: Path, name: str = AUTHORITY) -> bool:
    """Whether the folder has an authority, which can sign further certificates."""
    return (folder / f"{name}.pem").exists() and (folder / f"{name}.key").exists()


def write_authority(folder: Path, name: str = AUTHORITY, days: int = 365) -> None:
    """Write NAME.pem and NAME.key, which sign certificates; only the owner may read the key."""
    _write(folder, name, name, (), days, is_authority=True)


def write_certificate(
    folder: Path, name: str, hosts: Sequence[str] = (), days: int = 365, authority: str = AUTHORITY
) -> None:
    """Write NAME.pem and NAME.key for a server at these hosts, or for a client; fewer than 0 days: expired."""
    _write(folder, name, authority, hosts, days, is_authority=False)


def _write(folder: Path, name: str, issuer: str, hosts: Sequence[str], days: int, is_authority: bool) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    signing = key
    if not is_authority:
        loaded = serialization.load_pem_private_key((folder / f"{issuer}.key").read_bytes(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        signing = loaded
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder(_name(issuer), _name(name), key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=max(1, 1 - days)))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
    pem, no_password = serialization.Encoding.PEM, serialization.NoEncryption()
    (folder / f"{name}.pem").write_bytes(builder.sign(signing, hashes.SHA256()).public_bytes(pem))
    (folder / f"{name}.key").touch(0o600)
    form = serialization.PrivateFormat.PKCS8
    (folder / f"{name}.key").write_bytes(key.private_bytes(pem, form, no_password))


def _name(text: str) -> "x509.Name":
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _host(text: str) -> "x509.GeneralName":
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        if not _HOST.fullmatch(text):
            raise FrontError(f"--host: expected a name or an address, got '{text}'") from None
        return x509.DNSName(text)
