"""What is asked of a server: requests by a schedule (open loop) or so many callers who wait (closed loop)."""

import argparse
from dataclasses import dataclass

from clients.errors import InvalidInput
from loadtest.arrivals import SCHEDULES, Times, due_times
from loadtest.scenarios import SCENARIOS

DURATION_S = 10.0


@dataclass(frozen=True)
class Load:
    """A schedule, or so many callers.

    Attributes:
        arrivals: name of the schedule, or path of a trace; None for a closed loop.
        rate: requests per second.
        due: [requests] seconds from the start; None for a closed loop.
        callers: of a closed loop, else 0.
        duration: seconds for which requests are sent.
    """

    arrivals: str | None
    rate: float | None
    due: Times | None
    callers: int
    duration: float


def add_load_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say what is sent when."""
    how = parser.add_argument_group("load")
    how.add_argument("--rate", type=float, metavar="N", help="requests per second (open loop)")
    how.add_argument(
        "--arrivals", default="poisson", help=f"{', '.join(SCHEDULES)}, or a file of times (default: %(default)s)"
    )
    how.add_argument("--concurrency", type=int, metavar="N", help="callers who wait for their answers (closed loop)")
    how.add_argument("--duration", type=float, metavar="S", help=f"seconds (default: {DURATION_S:g}; trace: its own)")
    how.add_argument("--slo", default="", help="e.g. 'p99<20ms,errors<0.1%%'; the exit code is 1 when missed")
    how.add_argument(
        "--scenario",
        choices=SCENARIOS,
        help="a preset after MLPerf Inference and its figure: single-stream (one caller; p90), multi-stream (one "
        "caller, 8 inferences per request; p99), server (Poisson arrivals at --rate; whether it meets --slo, "
        "loadtest.peak searches for the rate), offline (full batches; inferences per second)",
    )


def load_of(arguments: argparse.Namespace) -> Load:
    """What the arguments ask for.

    Raises:
        InvalidInput: they do not fit together, or a trace cannot be read.
    """
    trace = arguments.arrivals not in SCHEDULES
    if arguments.concurrency is not None:
        if arguments.rate is not None or trace:
            raise InvalidInput("--concurrency is a closed loop, --rate and --arrivals an open one; choose")
        return closed(arguments.concurrency, DURATION_S if arguments.duration is None else arguments.duration)
    if arguments.rate is None and not trace:
        raise InvalidInput("expected --rate N (open loop) or --concurrency N (closed loop)")
    duration = DURATION_S if arguments.duration is None and not trace else arguments.duration
    return scheduled(arguments.arrivals, arguments.rate, duration, arguments.seed)


def closed(callers: int, duration: float) -> Load:
    """A closed loop."""
    if callers < 1 or not 0 < duration < float("inf"):
        raise InvalidInput(f"expected --concurrency of at least 1 and --duration above 0, got {callers} and {duration}")
    return Load(None, None, None, callers, duration)


def scheduled(arrivals: str, rate: float | None, duration: float | None, seed: int) -> Load:
    """An open loop; a trace without a duration lasts until its last request."""
    due = due_times(arrivals, rate, duration, seed)
    length = duration if duration is not None else float(due[-1]) + (float(due[-1]) / max(1, len(due) - 1) or 1.0)
    return Load(arrivals, rate, due, 0, length)
