"""The generator's options, which every command that sends load offers: flags, and the typed value of them."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from clients.command import duration, positive, seed
from clients.installation import ROOT
from loadtest.load import DEFAULT_ARRIVALS, DEFAULT_DURATION_S, SCHEDULES

# Where `make build` puts them, from whatever folder a test is run.
SAMPLES = ROOT / "build" / "samples"
REPORTS = Path("build/loadtest")


@dataclass(frozen=True)
class GeneratorOptions:
    """How requests are made and sent."""

    processes: int = 1
    connections: int = 512  # the most that may be open
    warm_up_s: float | None = None  # seconds at the beginning to leave out; None lets the latencies decide
    client_batch: int = 1  # inferences per request
    seed: int = 0  # of the schedule
    samples: Path = SAMPLES  # one folder of sample images per model
    payload: Path | None = None  # file of inputs to send in place of samples


def add_load_arguments(parser: argparse.ArgumentParser, objectives: str) -> argparse._ArgumentGroup:
    """Add the options of LoadOptions, --slo with examples of objectives, and --report; returns the first group."""
    load = parser.add_argument_group("load")
    load.add_argument("--rate", type=float, metavar="N", help="requests per second (open loop)")
    load.add_argument("--arrivals", help=f"{', '.join(SCHEDULES)}, or a file of times (default: {DEFAULT_ARRIVALS})")
    load.add_argument("--concurrency", type=int, metavar="N", help="callers who wait for their answers (closed loop)")
    text = f"as 90, 90s or 1m30s (default: {DEFAULT_DURATION_S:g}s; of a trace, its own)"
    load.add_argument("--duration", type=duration, metavar="TIME", help=text)
    load.add_argument("--slo", default="", help=f"e.g. {objectives}; the exit code is 1 when missed")
    parser.add_argument("--report", type=Path, default=REPORTS, help="folder of the reports (default: %(default)s)")
    return load


def add_generator_arguments(parser: argparse.ArgumentParser, prompts: bool = False) -> None:
    """Add the options of GeneratorOptions; with `prompts`, without those on other inputs."""
    usual, group = GeneratorOptions(), parser.add_argument_group("generator")
    for flag, default, text in (
        ("--processes", usual.processes, "sending processes"),
        ("--connections", usual.connections, "most open connections"),
    ):
        text = f"{text} (default: %(default)s)"
        group.add_argument(flag, type=positive, default=default, metavar="N", help=text)
    text = "as 5 or 5s, to leave out; 0 for nothing (default: detected by MSER-5)"
    group.add_argument("--warm-up", type=_warm_up, metavar="TIME", dest="warm_up_s", help=text)
    group.add_argument("--seed", type=seed, default=usual.seed, help="of the schedule (default: %(default)s)")
    if prompts:
        return
    text = "inferences per request (default: %(default)s)"
    group.add_argument("--client-batch", type=positive, default=usual.client_batch, metavar="N", help=text)
    text = "folder of sample images (default: the repository's build/samples)"
    group.add_argument("--samples", type=Path, default=usual.samples, help=text)
    text = "inputs to send: a .npy, or a .npz with an array for each input (default: samples, else random values)"
    group.add_argument("--payload", type=Path, metavar="FILE", help=text)


def _warm_up(text: str) -> float:
    return 0.0 if text == "0" else duration(text)
