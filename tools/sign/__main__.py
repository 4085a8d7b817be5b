"""Sign versions of models, so that every later change is detected: `python -m tools.sign --key keys/private.pem`.

`python -m tools.check --public-key` verifies the signatures, and so does `python -m tools.serve --public-key` before it
loads anything. docs/signing.md says what a signature covers and what it proves.

    python -m tools.sign --new-key keys                          # keys/private.pem (keep it secret), keys/public.pem
    python -m tools.sign --key keys/private.pem                  # all versions that a server would load
    python -m tools.sign mnist_mlp --version 3 --key keys/private.pem
    python -m tools.serve --public-key keys/public.pem

A signature covers config.pbtxt and labels.txt too: sign again after editing them.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from clients.command import command, command_parser, print_json
from tools.repository import REPOSITORY, RepositoryError, held_versions, model_names, versions
from tools.sign.coverage import remove_caches, served_versions
from tools.sign.signatures import PRIVATE, PUBLIC, new_key, sign, signer


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("tools.sign", __doc__)
    parser.add_argument("models", nargs="*", metavar="NAME", help="model (default: all that have a version)")
    parser.add_argument("--version", type=int, help="a served or held one (default: all that a server would load)")
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help="model repository")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--key", type=Path, metavar="PRIVATE.pem", help="the private key to sign with")
    action.add_argument("--new-key", type=Path, metavar="DIR", help=f"create a key pair there: {PRIVATE} and {PUBLIC}")
    return parser


def _selected(models: Sequence[str], version: int | None, repository: Path) -> Iterator[tuple[str, int]]:
    known = model_names(repository)
    for model in models or [name for name in known if versions(name, repository)]:
        if model not in known:
            raise RepositoryError(f"no model {model} in {repository}; there are {', '.join(known) or 'none'}")
        existing = versions(model, repository) + held_versions(model, repository)
        requested = [version] if version is not None else served_versions(model, repository)
        if not requested or not set(requested) <= set(existing):
            listed = ", ".join(map(str, existing)) or "none"
            missing = "that a server would load" if version is None else version
            raise RepositoryError(f"{model} has no version {missing}; there are: {listed}")
        yield from ((model, number) for number in requested)


@command(interrupted="the versions printed above are signed")
def main() -> int:
    """Create a key pair, or sign versions."""
    arguments = _parser().parse_args()
    if arguments.new_key:
        private, public = new_key(arguments.new_key)
        print(f"{private} signs: keep it secret and outside the repository. {public} verifies: give it to servers.")
        print_json({"private_key": str(private), "public_key": str(public)})
        return 0
    signer(arguments.key)  # Refuse a bad key before anything is signed.
    repository = arguments.repository.resolve()
    selected = list(_selected(arguments.models, arguments.version, repository))
    signed: dict[str, list[int]] = {}
    for model, version in selected:
        remove_caches(model, repository)
        print(f"{model} version {version}: {sign(model, version, arguments.key, repository)}")
        signed.setdefault(model, []).append(version)
    print_json({"signed": signed})
    return 0


if __name__ == "__main__":
    sys.exit(main())
