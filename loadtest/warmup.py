"""Where the warm-up of a run ends.

The marginal standard error rule on means of five (MSER-5: White, Cobb and Spratt, A comparison of five steady-state
truncation heuristics for simulation, Winter Simulation Conference 2000) leaves out as much of the beginning as makes
the mean of the rest surest. It works on logarithms, so that a few very slow requests do not outweigh all the others.

The rule alone would also leave out a stall near the beginning, and with it the very thing that a load test looks for.
So the beginning is only left out when it was slow as a whole: its median must be above that of the rest.
"""

from dataclasses import dataclass

import numpy as np

from loadtest.intervals import Values

BATCH = 5
FEWEST = 20  # means, without which there is nothing to judge
SLOWER = 1.2  # times the median of the rest


@dataclass(frozen=True)
class WarmUp:
    """How many requests belong to the warm-up, and whether a steady state was reached within the first half."""

    requests: int
    steady: bool


def warm_up(latencies: Values) -> WarmUp:
    """Judge a run.

    Args:
        latencies: [requests] seconds, in the order of events.
    """
    means = np.log(np.maximum(latencies, 1e-6))[: len(latencies) // BATCH * BATCH].reshape(-1, BATCH).mean(axis=1)
    if len(means) < FEWEST:
        return WarmUp(0, True)
    cut = mser(means)
    if cut == 0 or np.median(means[:cut]) < np.median(means[cut:]) + np.log(SLOWER):
        return WarmUp(0, not drifts(means))
    return WarmUp(cut * BATCH, not drifts(means[cut:]))


def mser(means: Values) -> int:
    """How many of the first values to leave out, half of them at most."""
    count = len(means)
    remaining = count - np.arange(count // 2)
    sums = np.cumsum(means[::-1])[::-1][: count // 2]
    squares = np.cumsum(means[::-1] ** 2)[::-1][: count // 2]
    return int(np.argmin((squares - sums**2 / remaining) / remaining**2))


def drifts(means: Values) -> bool:
    """Whether the last third was slower than the middle one by more than a third: the server does not keep up."""
    third = len(means) // 3
    return bool(np.median(means[-third:]) > np.median(means[third:-third]) + np.log(4 / 3))
