"""Where the warm-up of a run ends.

The marginal standard error rule on means of five (MSER-5: White, Cobb and Spratt, A comparison of five steady-state
truncation heuristics for simulation, Winter Simulation Conference 2000) truncates the beginning where that minimizes
the standard error of the mean of the rest; on logarithms, so that a few slow requests do not dominate. It would also
truncate a stall near the beginning, which is what a load test looks for: only a beginning that was slow as a whole,
whose median is above that of the rest, is left out.
"""

from dataclasses import dataclass

import numpy as np

from loadtest.analysis.intervals import Values

_BATCH = 5
_FEWEST = 20  # means, below which nothing can be judged
_SLOWER = 1.2  # times the median of the rest


@dataclass(frozen=True)
class WarmUp:
    """The number of requests in the warm-up, and whether a steady state was reached within the first half."""

    requests: int
    steady: bool


def warm_up(latencies: Values) -> WarmUp:
    """Find the end of the warm-up in [requests] latencies, which are in the order of events."""
    means = np.log(np.maximum(latencies, 1e-6))[: len(latencies) // _BATCH * _BATCH].reshape(-1, _BATCH).mean(axis=1)
    count = len(means)
    if count < _FEWEST:
        return WarmUp(0, True)
    # MSER: how many of the first means to leave out, half of them at most.
    remaining = count - np.arange(count // 2)
    sums = np.cumsum(means[::-1])[::-1][: count // 2]
    squares = np.cumsum(means[::-1] ** 2)[::-1][: count // 2]
    cut = int(np.argmin((squares - sums**2 / remaining) / remaining**2))
    if cut and np.median(means[:cut]) < np.median(means[cut:]) + np.log(_SLOWER):
        cut = 0
    rest = means[cut:]
    third = len(rest) // 3
    # The last third is slower than the middle one by more than a third: the server does not keep up.
    is_rising = bool(np.median(rest[-third:]) > np.median(rest[third:-third]) + np.log(4 / 3))
    return WarmUp(cut * _BATCH, not is_rising)
