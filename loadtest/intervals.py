"""How sure a percentile is: its confidence interval, and whether there are enough requests for it at all.

The interval is free of assumptions about the distribution: how many of n values lie below the true percentile is
binomial, so two order statistics enclose it with a known probability (Hahn and Meeker, Statistical Intervals, 1991,
section 5.2). That holds for independent values, and the latencies of neighbours in a queue are not: a stall makes a
hundred requests slow at once and yet is one event. How much more the count of slow requests varies over stretches of
the run than chance would have it (the design effect: Kish, Survey Sampling, 1965; batch means for percentiles:
Heidelberger and Lewis, Operations Research 32, 1984) says how many independent requests the run is worth.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

CONFIDENCE = 0.95
STRETCHES = 30  # Enough for a variance within a quarter, few enough to be longer than most stalls.


@dataclass(frozen=True)
class Percentile:
    """One percentile; values in the unit of the sample.

    Attributes:
        value: the order statistic; None where the sample is too small.
        low: lower end of the 95 % interval.
        high: its upper end; None where the run is worth too few independent requests to tell.
        needed: how many requests this percentile takes at the least.
        worth: how many independent requests the run is worth for it.
    """

    value: float | None
    low: float | None
    high: float | None
    needed: int
    worth: int

    def document(self, digits: int = 3) -> dict[str, Any]:
        """As JSON, rounded."""
        figures = {"value": self.value, "low": self.low, "high": self.high}
        rounded = {name: None if one is None else round(one, digits) for name, one in figures.items()}
        return {**rounded, "needed": self.needed, "worth": self.worth}


def needed(share: float) -> int:
    """The smallest sample whose largest value is above the percentile with 97.5 % probability: 368 for p99."""
    return max(math.ceil(math.log((1 - CONFIDENCE) / 2) / math.log(one)) for one in (share, 1 - share))


def percentile(values: Values, share: float) -> Percentile:
    """A percentile with its interval.

    Args:
        values: [n] in the order of events.
        share: 0 to 1, for example 0.99.
    """
    count, least = len(values), needed(share)
    if count < least:
        return Percentile(None, None, None, least, count)
    ordered = np.sort(values)
    value = float(ordered[rank(count, share)])
    worth = max(1, round(count / design_effect(values > value)))
    low, high = bounds(worth, share)
    return Percentile(value, at(ordered, low), at(ordered, high), least, worth)


def rank(count: int, share: float) -> int:
    """The position of a percentile among sorted values: the first that at least `share` of them do not exceed."""
    return min(count - 1, max(0, math.ceil(share * count - 1e-9) - 1))


def at(ordered: Values, share: float | None) -> float | None:
    """The value at a share of the sorted values."""
    return None if share is None else float(ordered[rank(len(ordered), share)])


def bounds(count: int, share: float) -> tuple[float | None, float | None]:
    """The ranks, as shares of `count`, of the two order statistics that enclose the percentile; None: there is none."""
    tail = (1 - CONFIDENCE) / 2
    cumulative = binomial_cdf(count, share)
    low = int(np.searchsorted(cumulative, tail, side="right"))  # P(fewer than `low` below) <= tail
    high = int(np.searchsorted(cumulative, 1 - tail)) + 1  # P(`high` or more below) <= tail
    return low / count if low >= 1 else None, high / count if high <= count else None


def binomial_cdf(count: int, share: float) -> Values:
    """[count + 1] probabilities of at most k successes, in logarithms until the end: no power of `share` underflows."""
    ks = np.arange(count + 1)
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count + 1)))])
    choose = factorials[-1] - factorials - factorials[::-1]
    logarithms = choose + ks * math.log(share) + (count - ks) * math.log1p(-share)
    return np.asarray(np.minimum(1.0, np.cumsum(np.exp(logarithms))), np.float64)


def design_effect(slow: npt.NDArray[np.bool_]) -> float:
    """How many times as much the count of slow requests varies from stretch to stretch as by chance; from 1 on.

    Args:
        slow: [n] whether a request was slower than the percentile, in the order of events.
    """
    size = len(slow) // STRETCHES
    if size == 0 or not slow.any() or slow.all():
        return 1.0
    counts = slow[: size * STRETCHES].reshape(STRETCHES, size).sum(axis=1)
    mean = slow.mean()
    return max(1.0, float(counts.var(ddof=1) / (size * mean * (1 - mean))))


def share_interval(count: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson's score interval, which holds near 0 and 1 too: Wilson, JASA 22, 1927)."""
    z, part = 1.959964, count / total
    middle = part + z * z / (2 * total)
    width = z * math.sqrt(part * (1 - part) / total + z * z / (4 * total * total))
    return max(0.0, (middle - width) / (1 + z * z / total)), min(1.0, (middle + width) / (1 + z * z / total))
