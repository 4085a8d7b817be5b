"""The search for the highest rate that one choice of settings sustains, one trial at a time."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from loadtest.analysis.peak_search import Belief, Search
from tools.tune.trials import Document, Trial, trial_from

_BACK_OFF = 0.9  # after a trial in which the generator was the bottleneck


@dataclass
class PeakSearch:
    """A search and all its trials.

    Attributes:
        start: the first estimate in requests per second, and the factor within which it is right two times in three.
        trials: all trials, including those in which the generator was the bottleneck.
    """

    start: tuple[float, float]
    state: Search
    trials: list[Trial] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        """The rate below which the peak lies with a probability."""
        return self.state.belief.quantile(share)

    def peak(self) -> float:
        """The most likely peak, in requests per second."""
        return self.quantile(0.5)

    def interval(self) -> tuple[float, float]:
        """The 90 % interval of the peak."""
        return self.state.belief.interval()

    def step(self, measure: Callable[[float, int], Trial]) -> Trial:
        """Run the next trial at the most likely peak, or lower while the generator is the bottleneck.

        Args:
            measure: takes a rate and the number of the trial.
        """
        trial = measure(self.peak() * _BACK_OFF**self.state.invalid, len(self.trials))
        self.note(trial)
        return trial

    def note(self, trial: Trial) -> None:
        """Learn from a trial."""
        self.trials.append(trial)
        self.state.note(trial.rate or 0.0, trial.is_sustained if trial.valid else None)

    def document(self) -> Document:
        """Return the search as JSON."""
        rates = zip(("peak_rps", "low_rps", "high_rps"), (self.peak(), *self.interval()), strict=True)
        figures = {name: round(rate, 1) for name, rate in rates}
        return {"start": self.start, **figures, "trials": [trial.document() for trial in self.trials]}


def search_around(rate: float, factor: float) -> PeakSearch:
    """Begin a search at a rate that is right within a factor with a probability of two thirds."""
    rates = np.geomspace(rate / factor**4, rate * factor**4, 2000)
    weights = np.exp(-0.5 * (np.log(rates / rate) / np.log(factor)) ** 2)
    return PeakSearch((rate, factor), Search(Belief(rates, weights / weights.sum())))


def search_from(document: Document) -> PeakSearch:
    """Read a search from JSON; the belief is computed from its trials."""
    search = search_around(*document["start"])
    for trial in document["trials"]:
        search.note(trial_from(trial))
    return search
