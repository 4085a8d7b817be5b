"""Which version of a model is served: `python -m tools.versions NAME list|promote|rollback|prune`.

A new version is loaded beside the one that is served, warmed, verified (`tools.verify`) and compared with it on the
same held-out rows; only then it takes over, and not one request fails on the way. A version that does not stand the
test is held: it lies in `<model>/.held/`, where Triton does not look, and what was served before still is.

    python -m tools.export mnist_mlp --seed 1 --hold                  # a new version that no server finds by itself
    python -m tools.versions mnist_mlp list --url 127.0.0.1:8000
    python -m tools.versions mnist_mlp promote --url 127.0.0.1:8000   # the newest; a number names another
    python -m tools.versions mnist_mlp rollback --url 127.0.0.1:8000  # back to the one before, in a second
    python -m tools.versions mnist_mlp prune --keep 3

Without --url a server of its own verifies, and a running one serves the choice from its next load or start on; the
choice is where the folders lie, so it outlives every server. Exit code 1: refused, nothing has changed for callers.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clients.client import Client
from clients.command import positive, say, text_table
from clients.connection import Connection, default_url
from clients.errors import ClientError
from tools.datasets import DataError
from tools.export.proof import ProofError
from tools.recipes import RecipeError
from tools.repository import (
    MANIFEST_FILE,
    REPOSITORY,
    VERIFICATION_FILE,
    RepositoryError,
    held_versions,
    read_manifest,
    version_path,
)
from tools.serve.hardware import HARDWARE
from tools.serve.server_error import ServerError
from tools.serve.tritonserver import Server
from tools.verify.effort import add_effort_arguments, effort_from
from tools.verify.server import connections, embedded
from tools.verify.verification import Verifier
from tools.verify.verification_table import report
from tools.versions import promotion
from tools.versions.candidates import settle
from tools.versions.examination import RefusedError
from tools.versions.promotion import Promoted

ACTIONS = ("list", "promote", "rollback", "prune")
Document = dict[str, Any]


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="python -m tools.versions", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", metavar="NAME")
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("version", nargs="?", type=positive, help="to promote (default: the newest, served or held)")
    add_server_arguments(parser)
    parser.add_argument("--keep", type=positive, default=3, metavar="K", help="for prune (default: 3)")
    parser.add_argument("--allow-worse", action="store_true", help="promote a version that is less accurate")
    add_effort_arguments(parser)
    return parser


def add_server_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say which server, and which repository it serves."""
    parser.add_argument("--url", metavar="HOST:PORT", help="HTTP address of a running server")
    parser.add_argument("--grpc-url", metavar="HOST:PORT", help="its gRPC address (default: as for tools.verify)")
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help="(default: %(default)s)")
    parser.add_argument("--hardware", choices=HARDWARE, default="auto", help="of a server of its own (default: auto)")
    parser.add_argument("--public-key", type=Path, metavar="PUBLIC.pem", help="serve only what was signed (tools.sign)")


@contextmanager
def verifier(arguments: argparse.Namespace, repository: Path) -> Iterator[Verifier]:
    """What verifies: on the running server, or on one of its own that serves what is served now."""
    effort = effort_from(arguments)
    if arguments.url:
        reached = connections(arguments.url, arguments.grpc_url or default_url("grpc"))
        yield Verifier(reached, "remote", repository, effort, say)
        return
    options = embedded([arguments.model], repository, arguments.hardware, arguments.public_key)
    with Server(options) as server:
        yield Verifier(connections(server.http, server.grpc), "embedded", repository, effort, say)


@contextmanager
def running(url: str | None) -> Iterator[Client | None]:
    """A client of the running server, if there is one."""
    if not url:
        yield None
        return
    with Client(Connection("http", url, timeout_s=promotion.LOAD_SECONDS)) as client:
        yield client


def states(model: str, repository: Path, client: Client | None) -> list[Document]:
    """All versions with what is known about each, oldest first."""
    loaded = (
        {str(one.get("version")): one.get("state") for one in client.models() if one["name"] == model} if client else {}
    )
    return [
        {"version": version, "state": state(model, version, repository), "server": loaded.get(str(version)), **about}
        for version in promotion.every_version(model, repository)
        for about in [known(model, version, repository)]
    ]


def state(model: str, version: int, repository: Path) -> str:
    """What a version is in the repository: served, kept for a rollback, or held."""
    if version in held_versions(model, repository):
        return "held"
    return "served" if version == promotion.serving(model, repository) else "kept"


def known(model: str, version: int, repository: Path) -> Document:
    """Accuracy and verification of a version, where it has them."""
    folder = version_path(model, version, repository)
    manifest = read_manifest(model, version, repository) if (folder / MANIFEST_FILE).is_file() else {}
    path = folder / VERIFICATION_FILE
    verified = json.loads(path.read_text())["passed"] if path.is_file() else None
    return {"accuracy": manifest.get("accuracy"), "verified": verified}


def listing(found: list[Document]) -> str:
    """The versions for people."""
    words = {None: "-", True: "yes", False: "FAILED"}
    rows = [
        [
            str(one["version"]),
            one["state"],
            "-" if one["accuracy"] is None else f"{one['accuracy']:.2%}",
            words[one["verified"]],
            one["server"] or "-",
        ]
        for one in found
    ]
    return text_table([["version", "state", "accuracy", "verified", "on the server"], *rows])


def told(one: Promoted) -> Document:
    """What has changed, printed and as JSON."""
    instead = f" instead of version {one.before}" if one.before else ""
    gain = "" if one.difference is None else f"; accuracy {100 * one.difference:+.2f} points on the same rows"
    print(f"{one.model}: version {one.version} is served{instead}{gain}")
    return {**asdict(one), "verification": one.verification.document() if one.verification else None}


def promoted(verifier: Verifier, version: int, arguments: argparse.Namespace) -> Promoted:
    """Promote, and wait until the server has put away what it no longer serves, also where it was refused."""
    try:
        return promotion.promote(
            verifier, arguments.model, version, verifier.repository, arguments.allow_worse, arguments.public_key
        )
    finally:
        with verifier.client() as client:
            settle(client)


def run(arguments: argparse.Namespace) -> Document:
    """Do what the command line says; the last line of stdout."""
    model, repository = arguments.model, arguments.repository.resolve()
    if not promotion.every_version(model, repository):
        raise RepositoryError(f"{model} has no version; run `python -m tools.export {model}`")
    if arguments.action == "promote":
        version = arguments.version or promotion.every_version(model, repository)[-1]
        with verifier(arguments, repository) as verifies:
            return told(promoted(verifies, version, arguments))
    if arguments.action == "prune":
        removed = promotion.prune(model, arguments.keep, repository)
        print(f"{model}: removed {', '.join(map(str, removed)) or 'none'}")
        return {"model": model, "removed": removed}
    with running(arguments.url) as client:
        if arguments.action == "rollback":
            done = promotion.rollback(client, model, repository, arguments.public_key)
            if client:
                settle(client)
            return told(done)
        found = states(model, repository, client)
    print(listing(found))
    return {"model": model, "versions": found}


def main() -> int:
    """Entry point."""
    arguments = parser().parse_args()
    try:
        document = run(arguments)
    except RefusedError as error:
        if error.verification and not error.verification.passed:
            print(report([error.verification]), file=sys.stderr)
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (ClientError, DataError, ProofError, RecipeError, RepositoryError, ServerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted", file=sys.stderr)
        return 130
    print(json.dumps(document, separators=(",", ":")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
