"""The command-line options of what verifies: on which server, and how much is sent."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients.command import positive, say
from clients.connection import PROTOCOLS, default_url
from clients.errors import InvalidInput
from tools.repository import REPOSITORY, versions
from tools.serve.hardware import HARDWARE
from tools.serve.tritonserver import Options, Server
from tools.verify.passes import Effort

if TYPE_CHECKING:
    from tools.verify.verifier import Verifier


def add_repository_argument(parser: argparse.ArgumentParser) -> None:
    """Add --repository, an absolute path."""
    text, default = "model repository", REPOSITORY
    parser.add_argument("--repository", type=_absolute, metavar="FOLDER", default=default, help=text)


def _absolute(text: str) -> Path:
    return Path(text).resolve()


def add_verifier_arguments(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """Add the options that `verifier_from` reads; with `several`, both addresses are lists, which it does not read."""
    add_repository_argument(parser)
    parser.set_defaults(public_key=None)
    choice = parser.add_mutually_exclusive_group()
    place: dict[str, Any] = {"metavar": "HOST:PORT", **({"nargs": "+"} if several else {})}
    kind, beside = ("each", "; of several, the port after HTTP's") if several else ("a", "")
    choice.add_argument("--url", **place, help=f"HTTP address of {kind} running server (default: one of its own)")
    choice.add_argument("--hardware", choices=HARDWARE, default="auto", help="of a server of its own")
    text = f"its gRPC address (default: $TRITON_GRPC_URL, else 127.0.0.1:8001{beside})"
    parser.add_argument("--grpc-url", **place, help=text)
    group = parser.add_argument_group("what is sent")
    group.add_argument("--protocol", nargs="+", choices=PROTOCOLS, default=PROTOCOLS, help="the ways to ask")
    numbers = partial(group.add_argument, nargs="+", type=positive, metavar="N")
    numbers("--concurrency", default=Effort.concurrencies, help="requests in flight at once")
    numbers("--batch-sizes", default=Effort.sizes, help="as far as the model takes them")
    group.add_argument("--limit", type=positive, metavar="N", help="rows of the held-out set (default: all)")


def refuse_lone_grpc_url(arguments: argparse.Namespace) -> None:
    """Raise InvalidInput if only the gRPC address of a running server is given."""
    if arguments.grpc_url and not arguments.url:
        raise InvalidInput("--grpc-url is of a running server: give its --url too")


@contextmanager
def verifier_from(arguments: argparse.Namespace, models: Sequence[str]) -> Iterator["Verifier"]:
    """Verify on the server that the options name, or on one of our own with these models, while the block lasts."""
    refuse_lone_grpc_url(arguments)
    # They import torch, which `--help` can do without.
    from tools.export import pipelines
    from tools.verify.verifier import Verifier, connections

    repository, protocols = arguments.repository, tuple(name for name in PROTOCOLS if name in arguments.protocol)
    effort = Effort(protocols, tuple(arguments.batch_sizes), tuple(arguments.concurrency), arguments.limit)
    if arguments.url:
        addresses = connections(arguments.url, arguments.grpc_url or default_url("grpc"))
        yield Verifier(addresses, "remote", repository, effort)
        return
    # These models and what they need, as far as there is a version of it, and no others.
    needed = {name for model in models for name in (model, *pipelines.all_members(model, repository))}
    loads = [f"--load-model={name}" for name in sorted(needed) if versions(name, repository)]
    options = Options(
        repository,
        hardware=arguments.hardware,
        ready_timeout=300,
        flags=["--model-control-mode=explicit", *loads],
        public_key=arguments.public_key,
        on_log=say,
    )
    with Server(options) as server:
        yield Verifier(connections(server.http, server.grpc), "embedded", repository, effort)
