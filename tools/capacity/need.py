"""How many replicas carry a rate, by what one of them sustains: arithmetic alone."""

import math
from dataclasses import dataclass

from loadtest.report.axes import number

ASSUMED = (
    "each replica has processors, or a GPU, of its own, as the measured one had: on shared cores, rates do not add up",
    "requests are spread by call, evenly, as the door does; what is in front of the replicas carries the whole rate",
    "requests are like those that were measured, and arrive at random (Poisson)",
)
_MOST_ROWS = 8
# 3,000 of 1,000 each are three, however the division is rounded.
_EXACT = 1 - 1e-9


@dataclass(frozen=True)
class One:
    """The highest rate that one replica sustains, in requests per second, with its 90 % interval."""

    peak: float
    low: float
    high: float


@dataclass(frozen=True)
class Wish:
    """What the replicas are to carry."""

    rate: float  # requests per second, of all together
    spare: int = 1  # replicas that may be away at a time
    utilization: float = 1.0  # of what one sustains, the most that each may be given

    def replicas(self, each: float) -> int:
        """The fewest replicas that carry the rate while the spare ones are away, where each sustains so much."""
        return math.ceil(self.rate / (each * self.utilization) * _EXACT) + self.spare


@dataclass(frozen=True)
class Need:
    """The replicas that a rate needs.

    `replicas` suffice with a probability of 95 %, as far as the measurement says; `least` with one of 5 %.
    """

    one: One
    wish: Wish

    @property
    def replicas(self) -> int:
        """What to run."""
        return self.wish.replicas(self.one.low)

    @property
    def likely(self) -> int:
        """By the most likely figure."""
        return self.wish.replicas(self.one.peak)

    @property
    def least(self) -> int:
        """Fewer do not suffice."""
        return self.wish.replicas(self.one.high)

    @property
    def counts(self) -> range:
        """The numbers of replicas that are worth a look."""
        return range(max(1, self.least - 1, self.replicas + 2 - _MOST_ROWS), self.replicas + 2)

    @property
    def answer(self) -> str:
        """What to run, in a sentence."""
        span = f" ({self.least} to {self.replicas})" if self.least < self.replicas else ""
        spare, words = self.wish.spare, "replica" if self.replicas == 1 else "replicas"
        answer = f"{number(self.wish.rate)} requests per second need {self.replicas} {words}{span}"
        if not spare:
            return f"{answer}, each at {self._share(self.replicas)} of what it sustains"
        rest = self._share(self.replicas - spare)
        return f"{answer} while {spare} of them may be away; the others are then at {rest} of what they sustain"

    def is_enough(self, working: int) -> bool:
        """Whether so many replicas carry the rate, by the low end of what one sustains."""
        return working >= self.replicas - self.wish.spare

    def table(self) -> list[list[str]]:
        """What each of several numbers of replicas would mean, with a header."""
        spare = self.wish.spare
        away = [f"with {spare} away"] if spare else []
        header = ["replicas", "requests/s each", "of what one sustains", *away, "enough"]
        return [header, *map(self._row, self.counts)]

    def _row(self, count: int) -> list[str]:
        spare, word = self.wish.spare, "yes" if count >= self.replicas else "perhaps" if count >= self.least else "no"
        away = [self._share(count - spare)] if spare else []
        return [str(count), number(self.wish.rate / count), self._share(count), *away, word]

    def _share(self, count: int) -> str:
        return f"{self.wish.rate / count / self.one.peak:.0%}" if count > 0 else "nobody is left"
