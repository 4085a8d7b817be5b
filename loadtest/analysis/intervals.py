"""Confidence intervals of percentiles and shares, how many requests a percentile needs, and a test of two shares.

A percentile's interval assumes nothing about the distribution: how many of n values lie below the true percentile is
binomial, so two order statistics enclose it with a known probability (Hahn and Meeker, Statistical Intervals, 1991,
section 5.2). That holds for independent values, but latencies in a queue are autocorrelated: one stall makes a hundred
consecutive requests slow. The design effect (Kish, Survey Sampling, 1965; batch means for percentiles: Heidelberger and
Lewis, Operations Research 32, 1984) compares how much the count of slow requests varies between stretches of the run
with what chance alone would give; n divided by it is the number of effective samples.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

CONFIDENCE = 0.95
_TAIL = (1 - CONFIDENCE) / 2
# Of a plot, denser towards the tail.
LEVELS = (0, 10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 92.5, 95, 97.5, 99, 99.5, 99.9)
_STRETCHES = 30  # Enough to know a variance within a quarter, few enough to be longer than most stalls.


@dataclass(frozen=True)
class Percentile:
    """One percentile with its 95 % interval; values in the unit of the sample, to three decimal places."""

    value: float | None  # the order statistic; None where the sample is too small
    low: float | None  # None where there are too few effective samples
    high: float | None
    required_samples: int  # least number of requests for this percentile
    effective_samples: int  # number of independent requests that the run is worth for it


def samples_required(share: float) -> int:
    """The smallest sample whose maximum is above the percentile with 97.5 % probability: 368 for p99."""
    return max(math.ceil(math.log(_TAIL) / math.log(side)) for side in (share, 1 - share))


def percentile(values: Values, share: float) -> Percentile:
    """Estimate a percentile, for example of share 0.99, from [n] values in the order of events."""
    count, required = len(values), samples_required(share)
    if count < required:
        return Percentile(None, None, None, required, count)
    value = order_statistic(values, share)
    effective = max(1, round(count / _design_effect(values > value)))
    ends = bounds(effective, share)
    low, high = (None if end is None else round(order_statistic(values, end), 3) for end in ends)
    return Percentile(round(value, 3), low, high, required, effective)


def order_statistic(values: Values, share: float) -> float:
    """The smallest of [n] values that at least a share of them do not exceed."""
    # Less than one rank below the share: the product of share and n may be rounded up past a whole number.
    return float(np.quantile(values, max(0.0, share - 1e-12), method="inverted_cdf"))


def curve(values: Values) -> list[tuple[float, float]]:
    """Points (percentile, value) for a plot of [n] values."""
    if not len(values):
        return []
    return list(zip(LEVELS, np.percentile(values, LEVELS).round(3).tolist(), strict=True))


def bounds(count: int, share: float) -> tuple[float | None, float | None]:
    """The ranks, as shares of `count`, of the order statistics that enclose a percentile; None where there is none."""
    from scipy.stats import binom

    low, below = (int(quantile) for quantile in binom.ppf((_TAIL, 1 - _TAIL), count, share))
    return low / count if low >= 1 else None, (below + 1) / count if below < count else None


def _design_effect(slow: npt.NDArray[np.bool_]) -> float:
    """How much more the number of slow ones of [n] requests varies between stretches than by chance; at least 1."""
    size = len(slow) // _STRETCHES
    if size == 0 or not slow.any() or slow.all():
        return 1.0
    counts = slow[: size * _STRETCHES].reshape(_STRETCHES, size).sum(axis=1)
    mean = slow.mean()
    return max(1.0, float(counts.var(ddof=1) / (size * mean * (1 - mean))))


def wilson_interval(count: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share by Wilson's score, which holds near 0 and 1 too (Wilson, JASA 22, 1927)."""
    from scipy.stats import binomtest

    interval = binomtest(count, total).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def paired_p_value(right: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    """How likely so large a difference is by chance if two models are equally good: McNemar's exact test.

    The arrays, [images], say which each model gets right. Only images that one gets right and the other wrong count, so
    the test sees differences that two separate intervals would hide.
    """
    from scipy.stats import binomtest

    won, lost = int((right & ~other).sum()), int((~right & other).sum())
    return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
