"""A search for a threshold by answers that are sometimes wrong.

Plain bisection never comes back from one wrong answer, and on a noisy host there are some: a trial spoiled by a
neighbour says "not sustained" of a rate that is. Here every answer only shifts belief, as in the measurement of the
faintest sound that a person hears (QUEST: Watson and Pelli, Perception & Psychophysics 33, 1983). Near the threshold
chance decides the answer, far from it mishaps alone do. That a higher rate is never easier is built in: all that is
believed in is one threshold.
"""

import math
from dataclasses import dataclass

import numpy as np

from loadtest.intervals import Values

POINTS = 2000
MISHAP = 0.05  # of all trials, which say the wrong thing at any rate
BLUR = 0.06  # relative distance from the threshold at which chance still decides every sixth trial


@dataclass(frozen=True)
class Belief:
    """How likely each rate is to be the highest sustained one; the rates are evenly spaced in their logarithms.

    Attributes:
        rates: [points] rising.
        weights: [points] probabilities.
    """

    rates: Values
    weights: Values

    def after(self, rate: float, sustained: bool) -> "Belief":
        """What is believed after a trial."""
        passes = MISHAP + (1 - 2 * MISHAP) * normal_cdf(np.log(self.rates / rate) / BLUR)
        weights = self.weights * (passes if sustained else 1 - passes)
        return Belief(self.rates, weights / weights.sum())

    def at(self, share: float) -> float:
        """The rate below which the threshold lies with a probability."""
        return float(self.rates[min(int(np.searchsorted(np.cumsum(self.weights), share)), len(self.rates) - 1)])

    def interval(self) -> tuple[float, float]:
        """Where the threshold lies with a probability of 90 %."""
        return self.at(0.05), self.at(0.95)


def unknown(lowest: float, highest: float) -> Belief:
    """Every rate between two is as likely as any other of its logarithm."""
    return Belief(np.geomspace(lowest, highest, POINTS), np.full(POINTS, 1 / POINTS))


def normal_cdf(values: Values) -> Values:
    """The standard normal distribution."""
    return np.array([0.5 + 0.5 * math.erf(value / math.sqrt(2)) for value in values], np.float64)
