"""The search for the highest rate that a server sustains, by trials that are sometimes wrong.

Plain bisection never recovers from one wrong answer, and on a noisy host there are some. So every trial only updates a
probability distribution of the threshold, as in psychometrics (QUEST: Watson and Pelli, Perception & Psychophysics 33,
1983): near the threshold chance decides a trial, far from it only mishaps do. There is one threshold: a higher rate is
never easier to sustain.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.analysis.intervals import Values, samples_required
from loadtest.slo import PERCENTILES, Objective

_POINTS = 2000
_MISHAP = 0.05  # of all trials, which give the wrong answer at any rate
_BLUR = 0.06  # relative distance from the threshold at which one trial in six is wrong by chance


@dataclass(frozen=True)
class Belief:
    """How likely each rate is to be the highest sustained one; rates are evenly spaced in their logarithms."""

    rates: Values  # [points] rising
    weights: Values  # [points] probabilities

    def after(self, rate: float, sustained: bool) -> "Belief":
        """Update by a trial (Bayes' rule)."""
        from scipy.special import ndtr

        passes = _MISHAP + (1 - 2 * _MISHAP) * ndtr(np.log(self.rates / rate) / _BLUR)
        weights = self.weights * (passes if sustained else 1 - passes)
        return Belief(self.rates, weights / weights.sum())

    def quantile(self, share: float) -> float:
        """The rate below which the threshold lies with a probability."""
        return float(self.rates[min(int(np.searchsorted(np.cumsum(self.weights), share)), len(self.rates) - 1)])

    def interval(self) -> tuple[float, float]:
        """The 90 % interval of the threshold."""
        return self.quantile(0.05), self.quantile(0.95)


def uniform_belief(lowest: float, highest: float) -> Belief:
    """Every rate between two is as likely as any other, on a logarithmic scale."""
    return Belief(np.geomspace(lowest, highest, _POINTS), np.full(_POINTS, 1 / _POINTS))


@dataclass
class Search:
    """The state of a search."""

    belief: Belief
    invalid: int = 0  # consecutive trials in which the generator was the bottleneck

    def note(self, rate: float, sustained: bool | None) -> None:
        """Learn from a trial; `sustained` is None where the generator was the bottleneck."""
        self.invalid = self.invalid + 1 if sustained is None else 0
        if sustained is not None:
            self.belief = self.belief.after(rate, sustained)

    def is_narrow(self, precision: float) -> bool:
        """Whether the interval is within a relative width."""
        low, high = self.belief.interval()
        return high <= low * (1 + precision)


def trial_seconds(rate: float, least: float, objectives: Sequence[Objective]) -> float:
    """How long a trial must last for enough requests for its objectives' percentiles, with a margin."""
    limited = {objective.figure for objective in objectives}
    # An answer brings many tokens, so their percentiles need fewer requests.
    kinds = ("", "ttft_", "tpot_")
    shares = [share for name, share in PERCENTILES.items() for kind in kinds if f"{kind}{name}_ms" in limited]
    return max([least, *(1.3 * samples_required(share) / rate for share in shares)])
