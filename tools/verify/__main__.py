"""The accuracy gate at the wire: does a server answer as the notebook did? `python -m tools.verify`.

Sends a model's whole held-out set through a running server, over HTTP and gRPC, in several batch sizes and with
several requests at once, and compares every answer with the eager PyTorch network's: how far they are apart, whether
accuracy is lost, and whether a row is answered alike alone and among others. A pipeline is compared with its members
one after the other; a step that learns nothing is sent examples.

    python -m tools.verify                                    # all models that have a version, on a server of its own
    python -m tools.verify mnist_mlp --url 127.0.0.1:8000     # as a running server serves it (gRPC: 127.0.0.1:8001)
    python -m tools.verify cifar10_cnn --concurrency 1 64 --batch-sizes 1 16 --limit 500

With a server of its own and the whole set the result becomes verification.json beside the version's manifest. Exit
code 0: all verified; 1: a version failed, its worst answers are shown; 2: it could not be tried.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from clients.command import say
from clients.connection import default_url
from clients.errors import ClientError
from tools import recipes
from tools.datasets import DataError
from tools.export import pipelines
from tools.export.proof import ProofError
from tools.recipes import RecipeError
from tools.repository import REPOSITORY, RepositoryError, versions
from tools.serve.hardware import HARDWARE
from tools.serve.server_error import ServerError
from tools.serve.tritonserver import Server
from tools.verify.effort import add_effort_arguments, effort_from
from tools.verify.server import connections, embedded
from tools.verify.verification import Effort, Verification, Verifier, record
from tools.verify.verification_table import report

UNTRIED = (ClientError, DataError, ProofError, RecipeError, RepositoryError, ServerError)


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="python -m tools.verify", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help="(default: all that have a version and a recipe)")
    parser.add_argument("--url", metavar="HOST:PORT", help="HTTP address of a running server (default: one of its own)")
    parser.add_argument(
        "--grpc-url", metavar="HOST:PORT", help="its gRPC address (default: $TRITON_GRPC_URL, else 127.0.0.1:8001)"
    )
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help="(default: %(default)s)")
    parser.add_argument("--hardware", choices=HARDWARE, default="auto", help="as for tools.serve (default: auto)")
    add_effort_arguments(parser)
    return parser


def chosen(models: Sequence[str], repository: Path) -> list[str]:
    """The models to verify, members before ensembles.

    Raises:
        RepositoryError: one that is named has no version, or none has one.
    """
    for model in models:
        recipes.load(model)
        pipelines.newest(model, repository)
    found = models or [name for name in recipes.names() if versions(name, repository)]
    if not found:
        raise RepositoryError(f"no model in {repository} has a version; run `make build`")
    return pipelines.in_order(list(found), repository)


def verify(models: Sequence[str], verifier: Verifier, store: bool) -> list[Verification]:
    """Verify models one after the other.

    Args:
        models: their names.
        verifier: with its server.
        store: whether results are kept, which is for a server that is known to serve these very files.
    """
    found = []
    for model in models:
        one = verifier.verify(model)
        for note in one.notes:
            say(f"notice: {note}")
        say(f"{model} version {one.version}: {'verified' if one.passed else 'FAILED'} ({one.seconds:.1f} s)")
        if store and verifier.effort.limit is None:
            record(one, verifier.repository)
        found.append(one)
    return found


def verify_here(
    models: Sequence[str], repository: Path, hardware: str = "auto", effort: Effort | None = None
) -> list[Verification]:
    """Verify models on a server of our own; whole sets are recorded beside the manifests.

    Raises:
        ServerError: it cannot start, for example because a model cannot be loaded.
    """
    with Server(embedded(models, repository, hardware)) as server:
        reached = connections(server.http, server.grpc)
        return verify(models, Verifier(reached, "embedded", repository, effort or Effort(), say), store=True)


def run(arguments: argparse.Namespace) -> list[Verification]:
    """Verify what the command line says, on the server that it says."""
    repository, effort = arguments.repository.resolve(), effort_from(arguments)
    models = chosen(arguments.models, repository)
    if arguments.url:
        reached = connections(arguments.url, arguments.grpc_url or default_url("grpc"))
        return verify(models, Verifier(reached, "remote", repository, effort, say), store=False)
    return verify_here(models, repository, arguments.hardware, effort)


def main() -> int:
    """Entry point."""
    arguments = parser().parse_args()
    try:
        found = run(arguments)
    except UNTRIED as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted", file=sys.stderr)
        return 130
    print(report(found))
    print(json.dumps({one.model: one.document() for one in found}, separators=(",", ":")))
    return 0 if all(one.passed for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
