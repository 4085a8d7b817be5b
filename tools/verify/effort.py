"""How much is sent to a server that is verified: options, and what they mean."""

import argparse

from clients.command import positive
from clients.connection import PROTOCOLS
from tools.verify.verification import Effort


def add_effort_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say how much is sent, and how."""
    group = parser.add_argument_group("what is sent")
    group.add_argument("--protocol", nargs="+", choices=PROTOCOLS, default=list(PROTOCOLS), help="(default: both)")
    group.add_argument(
        "--concurrency",
        nargs="+",
        type=positive,
        default=list(Effort.concurrencies),
        metavar="N",
        help="(default: 1 8 32)",
    )
    group.add_argument(
        "--batch-sizes",
        nargs="+",
        type=positive,
        default=list(Effort.sizes),
        metavar="N",
        help="as far as the model takes them (default: 1 5 16)",
    )
    group.add_argument("--limit", type=positive, metavar="N", help="rows of the held-out set (default: all)")


def effort_from(arguments: argparse.Namespace) -> Effort:
    """How much is sent, from the options above."""
    protocols = tuple(protocol for protocol in PROTOCOLS if protocol in arguments.protocol)
    return Effort(protocols, tuple(arguments.batch_sizes), tuple(arguments.concurrency), arguments.limit)
