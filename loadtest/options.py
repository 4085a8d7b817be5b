"""The generator's options, which every command that sends load offers: flags, and the typed value of them."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from clients.command import positive

SAMPLES = Path("build/samples")
REPORTS = Path("build/loadtest")


@dataclass(frozen=True)
class GeneratorOptions:
    """How requests are made and sent.

    Attributes:
        processes: sending processes.
        connections: the most that may be open.
        warm_up_s: seconds at the beginning to leave out; None lets the latencies decide.
        client_batch: inferences per request.
        seed: of the schedule.
        samples: folder of sample images, one folder per model.
    """

    processes: int = 1
    connections: int = 512
    warm_up_s: float | None = None
    client_batch: int = 1
    seed: int = 0
    samples: Path = SAMPLES


def add_generator_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `generator_options` reads."""
    usual, group = GeneratorOptions(), parser.add_argument_group("generator")

    def add(flag: str, **options: object) -> None:
        default = getattr(usual, flag.strip("-").replace("-", "_"))
        options["help"] = f"{options['help']} (default: %(default)s)"
        group.add_argument(flag, default=default, **options)  # type: ignore[arg-type]

    add("--processes", type=positive, metavar="N", help="sending processes")
    add("--connections", type=positive, metavar="N", help="most open connections")
    add("--client-batch", type=positive, metavar="N", help="inferences per request")
    add("--seed", type=int, help="seed of the schedule")
    add("--samples", type=Path, help="folder of sample images")
    group.add_argument("--warm-up", type=float, metavar="S", help="seconds to leave out (default: detected by MSER-5)")


def generator_options(arguments: argparse.Namespace) -> GeneratorOptions:
    """Read the options that `add_generator_arguments` added."""
    return GeneratorOptions(
        processes=arguments.processes,
        connections=arguments.connections,
        warm_up_s=arguments.warm_up,
        client_batch=arguments.client_batch,
        seed=arguments.seed,
        samples=arguments.samples,
    )
