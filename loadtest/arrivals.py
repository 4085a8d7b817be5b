"""When each request of an open-loop test is due: plain functions from a rate to times.

Customers do not wait for one another: how many come does not depend on how fast the server answers. A schedule that is
fixed before the test begins keeps it so. The same seed gives the same times, in every process that asks.

    python -m loadtest.run mnist_mlp --rate 500 --arrivals poisson
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clients.errors import InvalidInput

Times = npt.NDArray[np.float64]
Profile = list[tuple[float, float]]  # (share of the duration, multiple of the rate), straight lines in between
MOST = 20_000_000

# Four levels, each held for a quarter of the test: where on the way up does the latency leave the ground?
STEPS: Profile = [(0, 0.25), (0.25, 0.25), (0.25, 0.5), (0.5, 0.5), (0.5, 0.75), (0.75, 0.75), (0.75, 1), (1, 1)]
# From nothing to the rate, evenly.
RAMP: Profile = [(0, 0), (1, 1)]
# The rate, and five times as much for a twentieth of the test: how long does the server take to recover?
SPIKE: Profile = [(0, 1), (0.45, 1), (0.45, 5), (0.5, 5), (0.5, 1), (1, 1)]


def constant(rate: float, duration: float, seed: int = 0) -> Times:
    """Evenly spaced: [requests] float64 seconds from the start, rising; the seed does not matter."""
    return np.arange(max(1, round(rate * duration))) / rate


def poisson(rate: float, duration: float, seed: int = 0) -> Times:
    """Independent customers: exponential gaps with a mean of 1 / rate."""
    return along([(0, 1), (1, 1)], rate, duration, seed)


def steps(rate: float, duration: float, seed: int = 0) -> Times:
    """Poisson arrivals at a quarter, a half, three quarters and the whole of the rate."""
    return along(STEPS, rate, duration, seed)


def ramp(rate: float, duration: float, seed: int = 0) -> Times:
    """Poisson arrivals at a rate that rises evenly from nothing to `rate`."""
    return along(RAMP, rate, duration, seed)


def spike(rate: float, duration: float, seed: int = 0) -> Times:
    """Poisson arrivals at the rate, five times as many for a twentieth of the test in its middle."""
    return along(SPIKE, rate, duration, seed)


SCHEDULES: dict[str, Callable[[float, float, int], Times]] = {
    "constant": constant,
    "poisson": poisson,
    "steps": steps,
    "ramp": ramp,
    "spike": spike,
}


def along(profile: Profile, rate: float, duration: float, seed: int) -> Times:
    """A Poisson process whose rate follows a profile.

    Customers come at the highest rate, and each stays with the probability that the rate of its moment bears to it
    (thinning: Lewis and Shedler, Simulation of nonhomogeneous Poisson processes, Naval Research Logistics 26, 1979).
    """
    random = np.random.default_rng(seed)
    shares, factors = np.array(profile, np.float64).T
    count = random.poisson(rate * factors.max() * duration)
    moments = np.sort(random.uniform(size=count))
    stay = random.uniform(size=count) < np.interp(moments, shares, factors) / factors.max()
    times = moments[stay] * duration
    return times if len(times) else np.zeros(1)


def replay(path: Path, rate: float | None, duration: float | None) -> Times:
    """The arrivals of a trace: a text file with a time in seconds at the beginning of each line, in any order.

    Args:
        path: what follows a comma or blank is passed over, as is a first line that is no number.
        rate: requests per second on average to which the trace is compressed or stretched; None leaves it as it is.
        duration: seconds after which the rest is left out; None for all of it.

    Raises:
        InvalidInput: the file cannot be read, or a line does not begin with a number.
    """
    times = np.sort(trace(path))
    times -= times[0]
    if rate is not None and times[-1] > 0:
        times *= (len(times) - 1) / rate / times[-1]
    return times if duration is None else times[times < duration]


def trace(path: Path) -> Times:
    """The times of a trace as they stand in its file."""
    try:
        lines = [line.replace(",", " ").split() for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"--arrivals {path}: {error}; expected {', '.join(SCHEDULES)} or a text file with one time per line"
        ) from error
    rows = [words[0] for words in lines]
    if rows and not is_number(rows[0]):
        rows = rows[1:]
    broken = [row for row in rows if not is_number(row)]
    if broken or not rows:
        raise InvalidInput(
            f"{path}: expected a time in seconds at the beginning of each line, got {broken[:1] or 'none'}"
        )
    return np.array(rows, np.float64)


def is_number(text: str) -> bool:
    """Whether a text is a finite number."""
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def due_times(arrivals: str, rate: float | None, duration: float | None, seed: int) -> Times:
    """The schedule that a command asks for; see SCHEDULES, else `arrivals` is the path of a trace.

    Returns:
        [requests] float64 seconds from the start, rising, at least one.

    Raises:
        InvalidInput: rate or duration cannot be used, the trace cannot be read, or the schedule is too long.
    """
    for name, value in (("--rate", rate), ("--duration", duration)):
        if value is not None and not 0 < value < np.inf:
            raise InvalidInput(f"expected {name} of more than 0, got {value}")
    if arrivals not in SCHEDULES:
        return replay(Path(arrivals), rate, duration)
    if rate is None or duration is None:
        raise InvalidInput(f"--arrivals {arrivals} needs --rate and --duration; a trace has its own")
    if 5 * rate * duration > MOST:
        raise InvalidInput(f"--rate {rate:g} for {duration:g} s: more than {MOST // 5:,} requests; shorten the test")
    return SCHEDULES[arrivals](rate, duration, seed)


def part_of(times: Times, worker: int, workers: int) -> Times:
    """One worker's share of a schedule: every request belongs to exactly one worker, and all have about as many."""
    return times[worker::workers]
