"""The command-line options that say which server is verified, and with how much."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from clients.command import positive
from clients.connection import PROTOCOLS
from tools.repository import REPOSITORY
from tools.serve.hardware import HARDWARE
from tools.verify.passes import Effort
from tools.verify.verifier import Target


def add_repository_argument(parser: argparse.ArgumentParser) -> None:
    """Add --repository."""
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help="(default: %(default)s)")


def add_verifier_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a verifier: `target_from` and `effort_from` read them."""
    add_repository_argument(parser)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--url", metavar="HOST:PORT", help="HTTP address of a running server (default: one of its own)")
    choice.add_argument("--hardware", choices=HARDWARE, default="auto", help="of a server of its own (default: auto)")
    parser.add_argument(
        "--grpc-url",
        metavar="HOST:PORT",
        help="gRPC address of the running server (default: $TRITON_GRPC_URL, else 127.0.0.1:8001)",
    )
    group = parser.add_argument_group("what is sent")
    group.add_argument("--protocol", nargs="+", choices=PROTOCOLS, default=PROTOCOLS, help="(default: both)")
    _add_numbers(group, "--concurrency", Effort.concurrencies, "requests in flight at once")
    _add_numbers(group, "--batch-sizes", Effort.sizes, "as far as the model takes them")
    group.add_argument("--limit", type=positive, metavar="N", help="rows of the held-out set (default: all)")


def _add_numbers(group: argparse._ArgumentGroup, name: str, default: Sequence[int], words: str) -> None:
    shown = " ".join(map(str, default))
    group.add_argument(name, nargs="+", type=positive, default=default, metavar="N", help=f"{words} (default: {shown})")


def target_from(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> Target:
    """Read which server is verified."""
    if arguments.grpc_url and not arguments.url:
        parser.error("--grpc-url is of a running server: give its --url too")
    return Target(
        arguments.repository.resolve(),
        arguments.url,
        arguments.grpc_url,
        arguments.hardware,
        getattr(arguments, "public_key", None),
    )


def effort_from(arguments: argparse.Namespace) -> Effort:
    """Read how much is sent."""
    protocols = tuple(protocol for protocol in PROTOCOLS if protocol in arguments.protocol)
    return Effort(protocols, tuple(arguments.batch_sizes), tuple(arguments.concurrency), arguments.limit)
