"""Versions signed with a private key and verified with the public one, by OpenSSF's model-signing (`tools.sign` signs).

    >>> sign("mnist_mlp", 1, Path("keys/private.pem"))
    >>> refuse_unproven(["mnist_mlp"], Path("keys/public.pem"))

A signature is a Sigstore bundle around an in-toto statement: the SHA-256 of each file of a version
(`tools.signing.coverage`), signed with ECDSA on the key's curve. https://github.com/sigstore/model-transparency

What it proves: that the holder of the private key has signed these very files for this model and version number. What
it does not: that the version is the newest (who can delete folders can bring an older signed version back), nor that
the files are still the same a moment later. A server that starts reads each file again, after it was verified: whoever
can write to the repository while it starts, or is restarted by Triton, can change them in between. Serve from a folder
that only the deployment can write to, mounted read-only, and verify there. Versions that a load request brings later
are not verified by the server (`tools.versions promote --public-key` does it before it sends one); restrict who may
send them. A server that polls the repository would load whatever comes, so it is refused together with a key.
"""

import base64
import hashlib
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from clients.output import write_atomically
from tools.cpu_config import write_cpu_config
from tools.repository import CPU_CONFIG, REPOSITORY, SIGNATURE_FILE, RepositoryError, config_path, version_path
from tools.sign.coverage import CACHE, as_served, covered, remove_caches, served_versions

Flaw = Literal["missing", "invalid", "altered", "cached"]
# What the library and cryptography raise over a file that is no key, or one of another kind.
NO_KEY = (OSError, ValueError, TypeError, AttributeError)
# Flags of tritonserver with which it loads what nobody has verified.
UNPROVEN = re.compile(r"--model-control-mode[= ]poll|--model-repository|--model-store")
SHOWN = 5


class SignatureError(RepositoryError):
    """A key cannot be used, or a version does not stand its verification; the message names the file."""


@dataclass(frozen=True)
class Breach:
    """Why a version is not what somebody signed: a file, what is wrong with it, and what to do."""

    flaw: Flaw
    model: str
    version: int
    file: Path
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.model} version {self.version}: {self.file} {self.found}; {self.remedy}"


def hashing() -> Any:
    """How files are hashed: all of them; links are followed because `as_served` is made of them."""
    from model_signing import hashing

    return hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False).set_allow_symlinks(True)


def signer(private_key: Path) -> Any:
    """What signs with a private key.

    Raises:
        SignatureError: the file holds none that can be used.
    """
    from model_signing import signing

    try:
        config = signing.Config().use_elliptic_key_signer(private_key=private_key)
    except NO_KEY as error:
        raise SignatureError(
            f"{private_key} cannot sign ({said(error)}); expected a private key of the curve P-256, P-384 or P-521, in "
            "PEM and without a passphrase; `python -m tools.sign --new-key DIR` makes one"
        ) from error
    return config.set_hashing_config(hashing())


def verifier(public_key: Path) -> Any:
    """What verifies with a public key.

    Raises:
        SignatureError: the file holds none that can be used.
    """
    from model_signing import verifying

    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    except NO_KEY as error:
        raise SignatureError(
            f"{public_key} cannot verify ({said(error)}); expected the public key, in PEM, that belongs to the private "
            "one that signed: `public.pem` of `python -m tools.sign --new-key DIR`"
        ) from error
    return config.set_hashing_config(hashing())


def said(error: Exception) -> str:
    """What an error says, without the paragraphs after it."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).split("\n")[0].split(". ")[0]


def sign(
    model: str, version: int, private_key: Path, repository: Path = REPOSITORY, staged: Path | None = None
) -> Path:
    """Sign a version as it lies there; returns the signature's path. An older signature is replaced.

    Args:
        model: its name.
        version: its number, served or held.
        private_key: EC key in PEM.
        repository: where the model has its folder.
        staged: where the version lies, if it is not published yet.

    Raises:
        SignatureError: the key cannot be used, or a file cannot be read.
        RepositoryError: a config cannot be read, or derived.
    """
    signs = signer(private_key)
    # One that is out of date would be signed as somebody's own, and be missing when a server has derived it anew.
    if config_path(model, CPU_CONFIG, repository).is_file():
        write_cpu_config(model, repository)
    files = covered(model, version, repository, staged)
    target = (staged or version_path(model, version, repository)) / SIGNATURE_FILE
    with as_served(files, f"{model}-{version}") as top, tempfile.TemporaryDirectory() as scratch:
        try:
            signs.sign(top, Path(scratch) / SIGNATURE_FILE)
        except (OSError, ValueError) as error:
            raise SignatureError(f"{model} version {version} cannot be signed: {said(error)}") from error
        write_atomically(target, (Path(scratch) / SIGNATURE_FILE).read_text())
    return target


def breaches(model: str, version: int, public_key: Path, repository: Path = REPOSITORY) -> list[Breach]:
    """All that keeps a version from being what the holder of the private key signed; none where it is.

    Raises:
        SignatureError: the key cannot be used.
    """
    verifies, files = verifier(public_key), covered(model, version, repository)
    signature = version_path(model, version, repository) / SIGNATURE_FILE
    again = f"sign it, if you trust it, with `python -m tools.sign {model} --version {version} --key PRIVATE.pem`"
    if not signature.is_file():
        return [Breach("missing", model, version, signature, "does not exist: the version is not signed", again)]
    with as_served(files, f"{model}-{version}") as top, redirect_stdout(sys.stderr):
        try:
            verifies.verify(top, signature)
        except Exception as error:  # Whatever a forged file makes the library raise, the version is refused.
            if not str(error).startswith("Signature mismatch"):
                found = f"was not found to be made with the private key that belongs to {public_key} ({said(error)})"
                return [Breach("invalid", model, version, signature, found, again)]
            differ = list(differences(signature, files, repository))
            known = differ or [("altered", signature, f"does not fit the files ({error})")]
            remedy = {"altered": f"put it back as it was signed, or {again}", "cached": "remove it: Python rewrites it"}
            return [Breach(flaw, model, version, file, found, remedy[flaw]) for flaw, file, found in known]
    return []


def differences(signature: Path, files: dict[str, Path], repository: Path) -> Iterator[tuple[Flaw, Path, str]]:
    """The files that are not as a signature says, and how, where it was found to be genuine."""
    bundle = json.loads(signature.read_text())
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    signed = {one["name"]: one["digest"] for one in statement["predicate"]["resources"]}
    for name in sorted(signed.keys() | files.keys()):
        if name not in files:
            yield "altered", repository / name, "is missing"
        elif name not in signed:
            flaw: Flaw = "cached" if CACHE in Path(name).parts else "altered"
            yield flaw, files[name], "was added since the version was signed"
        elif hashlib.sha256(files[name].read_bytes()).hexdigest() != signed[name]:
            yield "altered", files[name], "was changed since the version was signed"


def refuse_breached(model: str, version: int, public_key: Path, repository: Path = REPOSITORY) -> None:
    """Raise SignatureError for a version that is not what the holder of the private key signed; caches are removed."""
    remove_caches(model, repository)
    refuse(breaches(model, version, public_key, repository))


def refuse_unproven(
    models: Sequence[str], public_key: Path | None, repository: Path = REPOSITORY, flags: Sequence[str] = ()
) -> None:
    """See that a server that starts loads nothing but what is signed; without a key nothing is done.

    Python's caches are removed: it would read them in place of the sources.

    Args:
        models: those that have a version.
        public_key: EC key in PEM.
        repository: where the models lie.
        flags: further flags of tritonserver.

    Raises:
        SignatureError: a version is unsigned, signed with another key or altered, the key cannot be used, or the
            server is to load versions that nobody has verified.
    """
    if public_key is None:
        return
    if found := UNPROVEN.search(" ".join(flags)):
        raise SignatureError(f"{found[0]} loads what nobody has verified; leave it out, or --public-key")
    for model in models:
        remove_caches(model, repository)
    served = ((model, version) for model in models for version in served_versions(model, repository))
    refuse([one for model, version in served for one in breaches(model, version, public_key, repository)])


def refuse(found: Sequence[Breach]) -> None:
    """Raise SignatureError where something was found, naming the first few."""
    if found:
        more = f"\nand {len(found) - SHOWN} more; `python -m tools.check --public-key` lists all"
        raise SignatureError("\n".join(map(str, found[:SHOWN])) + (more if len(found) > SHOWN else ""))
