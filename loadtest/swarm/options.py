"""Our options among Locust's, on the command line and in its web page."""

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clients.connection import PROTOCOLS, Protocol
from loadtest.options import REPORTS, SAMPLES

if TYPE_CHECKING:
    from locust.argument_parser import LocustArgumentParser


@dataclass(frozen=True)
class SwarmOptions:
    """The options of one test."""

    protocol: Protocol
    models: str  # names with weights, "a,b=2"; empty for all that are ready
    samples: Path
    payload: Path | None  # file of inputs of the only model
    client_batch: int
    think_time: float  # seconds between a user's requests
    slo: str
    report: Path | None  # folder of the reports; None for no report
    users: int
    headless: bool


def add_swarm_options(parser: "LocustArgumentParser") -> None:
    """Add the options that `swarm_options` reads."""
    # Locust takes its user class when it starts, so the web page cannot change the protocol.
    default = "(default: %(default)s)"
    parser.add_argument("--protocol", choices=PROTOCOLS, default="http", help=default, include_in_web_ui=False)
    group = parser.add_argument_group("Triton options")
    group.add_argument("--models", default="", help="names with weights, e.g. a,b=2 (default: all that are ready)")
    group.add_argument("--samples", default=str(SAMPLES), help="folder of sample images (default: the repository's)")
    text = "inputs to send to the one model of --models: a .npy, or a .npz by input (default: samples, else random)"
    group.add_argument("--payload", default="", help=text)
    group.add_argument("--client-batch", type=int, default=1, help=f"inferences per request {default}")
    text = f"seconds between a user's requests {default}"
    group.add_argument("--think-time", type=float, default=0.0, help=text)
    group.add_argument("--slo", default="", help="e.g. 'p99<50ms,errors<0.1%%'; the exit code is 1 when missed")
    group.add_argument("--report", default=str(REPORTS), help=f"folder of the reports {default}")


def swarm_options(parsed: Namespace) -> SwarmOptions:
    """Read Locust's parsed options."""
    return SwarmOptions(
        protocol=parsed.protocol,
        models=parsed.models or "",
        samples=Path(parsed.samples),
        payload=Path(parsed.payload) if parsed.payload else None,
        client_batch=parsed.client_batch,
        think_time=parsed.think_time,
        slo=parsed.slo or "",
        report=Path(parsed.report) if parsed.report else None,
        users=parsed.num_users,
        headless=bool(parsed.headless),
    )
