"""Sign versions of models, so that nobody changes a byte unnoticed: `python -m tools.sign --key keys/private.pem`.

Checked by `python -m tools.check --public-key`, and by `python -m tools.serve --public-key` before anything is loaded.
What a signature covers is said in `tools.signing.coverage`, what it proves in `tools.signing.signatures`.

    python -m tools.sign --new-key keys                          # keys/private.pem, to be kept secret; keys/public.pem
    python -m tools.sign --key keys/private.pem                  # all versions that are served
    python -m tools.sign mnist_mlp --version 3 --key keys/private.pem
    python -m tools.serve --public-key keys/public.pem

config.pbtxt and labels.txt belong to each version: after an edit, sign again.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.repository import REPOSITORY, RepositoryError, held_versions, model_names, versions
from tools.sign.coverage import remove_caches, served_versions
from tools.sign.signatures import sign, signer

PRIVATE, PUBLIC = "private.pem", "public.pem"


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="python -m tools.sign", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("models", nargs="*", metavar="NAME", help="(default: all that have a version)")
    parser.add_argument("--version", type=int, help="served or held (default: all that a server would load)")
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help="(default: %(default)s)")
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--key", type=Path, metavar="PRIVATE.pem", help="the private key to sign with")
    way.add_argument("--new-key", type=Path, metavar="DIR", help=f"make a pair of keys there: {PRIVATE} and {PUBLIC}")
    return parser


def new_key(folder: Path) -> tuple[Path, Path]:
    """Make a pair of keys of the curve P-256; the private one can be read by its owner alone.

    Raises:
        RepositoryError: a file of that name is there already, or cannot be written.
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
        raise RepositoryError(f"no key was made: {error.filename}: {error.strerror}; name another folder") from error
    return paths


def chosen(arguments: argparse.Namespace, repository: Path) -> Iterator[tuple[str, int]]:
    """The versions that are to be signed.

    Raises:
        RepositoryError: there is no such model or version.
    """
    known = model_names(repository)
    for model in arguments.models or [name for name in known if versions(name, repository)]:
        if model not in known:
            raise RepositoryError(f"no model {model} in {repository}; there are {', '.join(known) or 'none'}")
        there = versions(model, repository) + held_versions(model, repository)
        wanted = [arguments.version] if arguments.version is not None else served_versions(model, repository)
        if not wanted or not set(wanted) <= set(there):
            listed = ", ".join(map(str, there)) or "none"
            asked = "that is served" if arguments.version is None else arguments.version
            raise RepositoryError(f"{model} has no version {asked}; there are: {listed}")
        yield from ((model, version) for version in wanted)


def sign_all(arguments: argparse.Namespace) -> dict[str, Any]:
    """Sign what was asked for, without Python's caches; the last line of stdout."""
    signer(arguments.key)
    repository = arguments.repository.resolve()
    signed: dict[str, list[int]] = {}
    for model, version in list(chosen(arguments, repository)):
        remove_caches(model, repository)
        print(f"{model} version {version}: {sign(model, version, arguments.key, repository)}")
        signed.setdefault(model, []).append(version)
    return {"signed": signed}


def main() -> int:
    """Entry point."""
    arguments = parser().parse_args()
    try:
        if arguments.new_key:
            private, public = new_key(arguments.new_key)
            print(f"{private} signs: keep it secret, and out of the repository. {public} verifies: give it to servers")
            document: dict[str, Any] = {"private_key": str(private), "public_key": str(public)}
        else:
            document = sign_all(arguments)
    except (OSError, RepositoryError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(document, separators=(",", ":")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
