"""Sign versions with a private key and verify them with the public one, by OpenSSF's model-signing.

A signature is a Sigstore bundle around an in-toto statement: the SHA-256 of each file of a version, signed with ECDSA
on the key's curve. It proves that the owner of the private key signed exactly these files for this model and version
number; docs/signing.md says what it does not prove. https://github.com/sigstore/model-transparency
"""

import base64
import hashlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from clients.output import write_atomically
from tools.cpu_config import write_cpu_config
from tools.repository import CPU_CONFIG, REPOSITORY, SIGNATURE_FILE, RepositoryError, config_path, version_path
from tools.sign.coverage import CACHE, as_served, covered, remove_caches, served_versions

PRIVATE, PUBLIC = "private.pem", "public.pem"
Flaw = Literal["missing", "invalid", "altered", "cached"]
_NEW_KEY = "`python -m tools.sign --new-key DIR`"
_SHOWN = 5


class SignatureError(RepositoryError):
    """A version cannot be signed or verified; the message names the file."""


class BreachError(SignatureError):
    """A version is not what the owner of the private key signed."""

    exit_code = 1


@dataclass(frozen=True)
class Breach:
    """A way in which a version is not what was signed: a file, what is wrong with it, and what to do."""

    flaw: Flaw
    model: str
    version: int
    file: Path
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.model} version {self.version}: {self.file} {self.found}; {self.remedy}"


def new_key(folder: Path) -> tuple[Path, Path]:
    """Create a key pair on the curve P-256, the private key for its owner's eyes only, and return the paths.

    Raises RepositoryError if a file of that name exists, or cannot be written.
    """
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    public = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    paths = folder / PRIVATE, folder / PUBLIC
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            if path.exists():
                raise FileExistsError(0, "it exists, and keys are never overwritten", str(path))
        for path, content, mode in zip(paths, (private, public), (0o600, 0o644), strict=True):
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
                stream.write(content)
    except OSError as error:
        place = error.filename or folder
        raise RepositoryError(f"no key created: {place}: {error.strerror}; use another folder") from error
    return paths


def signer(private_key: Path) -> Any:
    """Load a private key to sign with; raises SignatureError if the file holds no usable one."""
    from model_signing import signing

    use_key = partial(signing.Config().use_elliptic_key_signer, private_key=private_key)
    expected = "a private key of the curve P-256, P-384 or P-521, in PEM and without a passphrase; "
    return _configure(use_key, f"{private_key} cannot sign", f"{expected}{_NEW_KEY} creates one")


def verifier(public_key: Path) -> Any:
    """Load a public key to verify with; raises SignatureError if the file holds no usable one."""
    from model_signing import verifying

    use_key = partial(verifying.Config().use_elliptic_key_verifier, public_key=public_key)
    expected = f"the public key, in PEM, of the private key that signed: `{PUBLIC}` of {_NEW_KEY}"
    return _configure(use_key, f"{public_key} cannot verify", expected)


def _configure(use_key: Callable[[], Any], problem: str, expected: str) -> Any:
    from model_signing import hashing

    try:
        config = use_key()
    # What model-signing and cryptography raise for a file that is not a key, or a key of another kind.
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise SignatureError(f"{problem} ({_first_sentence(error)}); expected {expected}") from error
    # All files are hashed, and links followed because `as_served` consists of them.
    files = hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False).set_allow_symlinks(True)
    return config.set_hashing_config(files)


def _first_sentence(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).split("\n")[0].split(". ")[0]


def sign(
    model: str, version: int, private_key: Path, repository: Path = REPOSITORY, staged: Path | None = None
) -> Path:
    """Sign a version, served, held or still in its `staged` folder, and return the path of the signature.

    Raises:
        SignatureError: the key is unusable, or a file cannot be read.
        RepositoryError: a config cannot be read or derived.
    """
    config = signer(private_key)
    # An outdated one would be signed as a hand-written config, and be missing once a server has derived it again.
    if config_path(model, CPU_CONFIG, repository).is_file():
        write_cpu_config(model, repository)
    files = covered(model, version, repository, staged)
    target = (staged or version_path(model, version, repository)) / SIGNATURE_FILE
    with as_served(files, f"{model}-{version}") as top, tempfile.TemporaryDirectory() as scratch:
        try:
            config.sign(top, Path(scratch) / SIGNATURE_FILE)
        except (OSError, ValueError) as error:
            raise SignatureError(f"{model} version {version} cannot be signed: {_first_sentence(error)}") from error
        write_atomically(target, (Path(scratch) / SIGNATURE_FILE).read_text())
    return target


def breaches(model: str, version: int, public_key: Path, repository: Path = REPOSITORY) -> list[Breach]:
    """The ways in which a version is not what the owner of the private key signed; SignatureError for a bad key."""
    config, files = verifier(public_key), covered(model, version, repository)
    signature = version_path(model, version, repository) / SIGNATURE_FILE
    sign_again = f"if you trust it, sign it with `python -m tools.sign {model} --version {version} --key PRIVATE.pem`"
    if not signature.is_file():
        return [Breach("missing", model, version, signature, "does not exist: the version is not signed", sign_again)]
    with as_served(files, f"{model}-{version}") as top, redirect_stdout(sys.stderr):
        try:
            config.verify(top, signature)
        except Exception as error:  # A forged file may make the library raise anything.
            if not str(error).startswith("Signature mismatch"):
                found = f"was not made with the private key of {public_key} ({_first_sentence(error)})"
                return [Breach("invalid", model, version, signature, found, sign_again)]
            differences = list(_differences(signature, files, repository))
            differences = differences or [("altered", signature, f"does not match the files ({error})")]
            remedy = {"altered": f"restore the signed file, or {sign_again}", "cached": "remove it; Python rewrites it"}
            return [Breach(flaw, model, version, file, found, remedy[flaw]) for flaw, file, found in differences]
    return []


def _differences(signature: Path, files: dict[str, Path], repository: Path) -> Iterator[tuple[Flaw, Path, str]]:
    """The files that differ from a genuine signature, each with the way it differs."""
    bundle = json.loads(signature.read_text())
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    signed = {resource["name"]: resource["digest"] for resource in statement["predicate"]["resources"]}
    for name in sorted(signed.keys() | files.keys()):
        if name not in files:
            yield "altered", repository / name, "is missing"
        elif name not in signed:
            flaw: Flaw = "cached" if CACHE in Path(name).parts else "altered"
            yield flaw, files[name], "was added since the version was signed"
        elif hashlib.sha256(files[name].read_bytes()).hexdigest() != signed[name]:
            yield "altered", files[name], "was changed since the version was signed"


def refuse_breached(signed: Sequence[tuple[str, int]], public_key: Path, repository: Path = REPOSITORY) -> None:
    """Remove Python's caches, and raise BreachError if a version is not what the owner of the private key signed.

    Python would run the caches in place of the sources.
    """
    for model, _ in signed:
        remove_caches(model, repository)
    breached = [breach for version in signed for breach in breaches(*version, public_key, repository)]
    if breached:
        more = f"\nand {len(breached) - _SHOWN} more; `python -m tools.check --public-key` lists all"
        raise BreachError("\n".join(map(str, breached[:_SHOWN])) + (more if len(breached) > _SHOWN else ""))


def refuse_unproven(
    models: Sequence[str], public_key: Path | None, repository: Path = REPOSITORY, flags: Sequence[str] = ()
) -> None:
    """Refuse to start a server that would load anything unsigned of these models; without a key, do nothing.

    Raises:
        BreachError: a version is unsigned, signed with another key or altered.
        SignatureError: the key is unusable, or tritonserver's flags let it load versions that nobody has verified.
    """
    if public_key is None:
        return
    if flag := re.search(r"--model-control-mode[= ]poll|--model-repository|--model-store", " ".join(flags)):
        raise SignatureError(f"{flag[0]} loads what nobody has verified; drop it or --public-key")
    served = [(model, version) for model in models for version in served_versions(model, repository)]
    refuse_breached(served, public_key, repository)
