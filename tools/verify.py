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

from clients.connection import PROTOCOLS, Connection, Protocol, default_url
from clients.errors import ClientError
from tools import recipes, settings
from tools.datasets import DataError
from tools.proving import pipelines
from tools.proving.proof import ProofError
from tools.recipes import RecipeError
from tools.repository import REPOSITORY, RepositoryError, versions
from tools.server.hardware import HARDWARE
from tools.server.server_error import ServerError
from tools.server.tritonserver import Options, Server
from tools.verifying.verification import Effort, Verification, Verifier, record
from tools.verifying.verification_table import report

UNTRIED = (ClientError, DataError, ProofError, RecipeError, RepositoryError, ServerError)


def add_effort_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say how much is sent, and how."""
    group = parser.add_argument_group("what is sent")
    group.add_argument("--protocol", nargs="+", choices=PROTOCOLS, default=list(PROTOCOLS), help="(default: both)")
    group.add_argument(
        "--concurrency",
        nargs="+",
        type=settings.positive,
        default=list(Effort.concurrencies),
        metavar="N",
        help="(default: 1 8 32)",
    )
    group.add_argument(
        "--batch-sizes",
        nargs="+",
        type=settings.positive,
        default=list(Effort.sizes),
        metavar="N",
        help="as far as the model takes them (default: 1 5 16)",
    )
    group.add_argument("--limit", type=settings.positive, metavar="N", help="rows of the held-out set (default: all)")


def effort_from(arguments: argparse.Namespace) -> Effort:
    """How much is sent, from the options above."""
    protocols = tuple(protocol for protocol in PROTOCOLS if protocol in arguments.protocol)
    return Effort(protocols, tuple(arguments.batch_sizes), tuple(arguments.concurrency), arguments.limit)


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


def connections(http: str, grpc: str) -> dict[Protocol, Connection]:
    """A server's addresses by protocol."""
    return {"http": Connection("http", http), "grpc": Connection("grpc", grpc)}


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


def embedded(models: Sequence[str], repository: Path, hardware: str, public_key: Path | None = None) -> Options:
    """A server for these models and what they need, as far as there is a version of it, and no others."""
    needed = {member for model in models for member in [*pipelines.all_members(model, repository), model]}
    loads = [f"--load-model={model}" for model in sorted(needed) if versions(model, repository)]
    flags = ["--model-control-mode=explicit", *loads]
    return Options(repository, hardware=hardware, ready_timeout=300, flags=flags, public_key=public_key, on_log=say)


def say(line: str) -> None:
    """Progress; stdout is left to results."""
    print(line, file=sys.stderr, flush=True)


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
