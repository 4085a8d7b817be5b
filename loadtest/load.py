"""The load that is sent: requests on a schedule (open loop), or a number of callers who wait (closed loop).

Real traffic does not wait for earlier requests: how many arrive does not depend on how fast the server answers. So a
schedule is fixed before the test begins. The same seed gives the same times in every process.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clients.errors import InvalidInput

Times = npt.NDArray[np.float64]
_Profile = list[tuple[float, float]]  # (share of the duration, multiple of the rate), straight lines in between

DEFAULT_ARRIVALS = "poisson"
DEFAULT_DURATION_S = 10.0
_MOST = 20_000_000
# Poisson arrivals whose rate follows a profile.
_PROFILES: dict[str, _Profile] = {
    "poisson": [(0, 1), (1, 1)],
    # Four levels of a quarter of the test each: at which load does latency begin to rise?
    "steps": [(0, 0.25), (0.25, 0.25), (0.25, 0.5), (0.5, 0.5), (0.5, 0.75), (0.75, 0.75), (0.75, 1), (1, 1)],
    "ramp": [(0, 0), (1, 1)],
    # A burst of five times the rate for a twentieth of the test: how long does the server take to recover?
    "spike": [(0, 1), (0.45, 1), (0.45, 5), (0.5, 5), (0.5, 1), (1, 1)],
}
SCHEDULES = ("constant", *_PROFILES)


@dataclass(frozen=True)
class Load:
    """A schedule, or a number of callers."""

    arrivals: str | None  # name of the schedule, or path of a trace; None for a closed loop
    rate: float | None  # requests per second
    due: Times | None  # [requests] seconds from the start; None for a closed loop
    callers: int  # of a closed loop, else 0
    duration: float  # seconds for which requests are sent

    @property
    def rate_varies(self) -> bool:
        """Whether the rate changes during the run, and with it the server's state."""
        return self.arrivals not in ("constant", "poisson", None)


def closed_loop(callers: int, duration: float) -> Load:
    """Callers who each wait for an answer before sending again; raises InvalidInput for no caller or no time."""
    if callers < 1 or not 0 < duration < float("inf"):
        raise InvalidInput(f"expected --concurrency of at least 1 and --duration above 0, got {callers} and {duration}")
    return Load(None, None, None, callers, duration)


def open_loop(arrivals: str, rate: float | None, duration: float | None, seed: int) -> Load:
    """Requests on a schedule (see `due_times`); a trace without a duration lasts until its last request."""
    due = due_times(arrivals, rate, duration, seed)
    length = duration if duration is not None else float(due[-1]) + (float(due[-1]) / max(1, len(due) - 1) or 1.0)
    return Load(arrivals, rate, due, 0, length)


@dataclass(frozen=True)
class LoadOptions:
    """The load that a command line asks for; None where an option was not given."""

    rate: float | None = None
    arrivals: str | None = None
    concurrency: int | None = None
    duration: float | None = None
    client_batch: int | None = None

    def load(self, seed: int) -> Load:
        """Make the load; raises InvalidInput if options contradict each other, or a trace cannot be read."""
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


def due_times(arrivals: str, rate: float | None, duration: float | None, seed: int) -> Times:
    """Make a schedule.

    Args:
        arrivals: a name in SCHEDULES, or the path of a trace: a text file with a time in seconds at the start of each
            line, in any order. The rest of a line after a comma or blank is ignored, and so is a header line.
        rate: requests per second on average, to which a trace is compressed or stretched; None leaves a trace as it is.
        duration: seconds, after which the rest of a trace is left out; None for all of it.
        seed: of the random arrivals.

    Returns:
        [requests] float64 seconds from the start, rising, at least one.

    Raises:
        InvalidInput: rate or duration cannot be used, the trace cannot be read, or the schedule is too long.
    """
    for name, value in (("--rate", rate), ("--duration", duration)):
        if value is not None and not 0 < value < np.inf:
            raise InvalidInput(f"expected {name} of more than 0, got {value}")
    if arrivals not in SCHEDULES:
        return _trace_times(Path(arrivals), rate, duration)
    if rate is None or duration is None:
        raise InvalidInput(f"--arrivals {arrivals} needs --rate and --duration; a trace has its own")
    if 5 * rate * duration > _MOST:
        raise InvalidInput(f"--rate {rate:g} for {duration:g} s: more than {_MOST // 5:,} requests; shorten the test")
    if arrivals == "constant":
        return np.arange(max(1, round(rate * duration))) / rate
    return _poisson_times(_PROFILES[arrivals], rate, duration, seed)


def _poisson_times(profile: _Profile, rate: float, duration: float, seed: int) -> Times:
    """Arrivals at the highest rate, each kept with probability rate / highest rate at that moment.

    Thinning: Lewis and Shedler, Simulation of nonhomogeneous Poisson processes, Naval Research Logistics 26, 1979.
    """
    random = np.random.default_rng(seed)
    shares, factors = np.array(profile, np.float64).T
    moments = np.sort(random.uniform(size=random.poisson(rate * factors.max() * duration)))
    is_kept = random.uniform(size=len(moments)) < np.interp(moments, shares, factors) / factors.max()
    times = moments[is_kept] * duration
    return times if len(times) else np.zeros(1)


def _trace_times(path: Path, rate: float | None, duration: float | None) -> Times:
    times = np.sort(_read_trace(path))
    times -= times[0]
    if rate is not None and times[-1] > 0:
        times *= (len(times) - 1) / rate / times[-1]
    return times if duration is None else times[times < duration]


def _read_trace(path: Path) -> Times:
    try:
        lines = [line.replace(",", " ").split() for line in path.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"--arrivals {path}: {error}; expected {', '.join(SCHEDULES)} or a text file with one time per line"
        ) from error
    cells = [words[0] for words in lines if words]
    if cells and not _is_number(cells[0]):
        cells = cells[1:]
    broken = [cell for cell in cells if not _is_number(cell)]
    if broken or not cells:
        raise InvalidInput(f"{path}: expected a time in seconds at the start of each line, got {broken[:1] or 'none'}")
    return np.array(cells, np.float64)


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def part_of(times: Times, worker: int, workers: int) -> Times:
    """One worker's part of a schedule: every request belongs to exactly one worker, and all have about as many."""
    return times[worker::workers]
