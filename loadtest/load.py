"""The load that is sent: requests on a schedule (open loop), or a number of callers who wait (closed loop)."""

from dataclasses import dataclass

from clients.errors import InvalidInput
from loadtest.arrivals import SCHEDULES, Times, due_times

DEFAULT_ARRIVALS = "poisson"
DEFAULT_DURATION_S = 10.0


@dataclass(frozen=True)
class Load:
    """A schedule, or a number of callers.

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

    @property
    def rate_varies(self) -> bool:
        """Whether the rate changes during the run, and with it the server's state."""
        return self.arrivals not in ("constant", "poisson", None)


def closed_loop(callers: int, duration: float) -> Load:
    """A number of callers, each of whom waits for an answer before sending the next request.

    Raises:
        InvalidInput: there is no caller, or no time.
    """
    if callers < 1 or not 0 < duration < float("inf"):
        raise InvalidInput(f"expected --concurrency of at least 1 and --duration above 0, got {callers} and {duration}")
    return Load(None, None, None, callers, duration)


def open_loop(arrivals: str, rate: float | None, duration: float | None, seed: int) -> Load:
    """Requests on a schedule; a trace without a duration lasts until its last request.

    Raises:
        InvalidInput: see `due_times`.
    """
    due = due_times(arrivals, rate, duration, seed)
    length = duration if duration is not None else float(due[-1]) + (float(due[-1]) / max(1, len(due) - 1) or 1.0)
    return Load(arrivals, rate, due, 0, length)


@dataclass(frozen=True)
class LoadOptions:
    """The load that a command line asks for; None where an option was not given.

    Attributes:
        rate: requests per second (open loop).
        arrivals: name of a schedule, or path of a trace.
        concurrency: callers (closed loop).
        duration: seconds.
        client_batch: inferences per request.
    """

    rate: float | None = None
    arrivals: str | None = None
    concurrency: int | None = None
    duration: float | None = None
    client_batch: int | None = None

    def load(self, seed: int) -> Load:
        """Make the load.

        Raises:
            InvalidInput: the options contradict each other, or a trace cannot be read.
        """
        arrivals = self.arrivals or DEFAULT_ARRIVALS
        is_trace = arrivals not in SCHEDULES
        duration = self.duration if self.duration is not None or is_trace else DEFAULT_DURATION_S
        if self.concurrency is None:
            if self.rate is None and not is_trace:
                raise InvalidInput("expected --rate N (open loop) or --concurrency N (closed loop)")
            return open_loop(arrivals, self.rate, duration, seed)
        if self.rate is not None or is_trace:
            raise InvalidInput("--concurrency is a closed loop, --rate and --arrivals an open one; choose")
        return closed_loop(self.concurrency, DEFAULT_DURATION_S if duration is None else duration)
