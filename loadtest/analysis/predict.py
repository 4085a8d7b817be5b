"""What a change should bring, by arithmetic on the times that a server measured.

An execution of b inferences takes about fixed + each · b µs: a line through the measured times. Callers who wait for
their answers keep a number of requests in the server. Whenever one of N busy instances is done, it takes all that has
queued since another one was: with so many callers, batches of callers / (N + 1).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from loadtest.analysis.server_side import Executions

RATE, TIME = "requests per second", "µs of a request in the server"


@dataclass(frozen=True)
class Gain:
    """A figure before a change and, as predicted, after it."""

    figure: str  # RATE or TIME
    before: float
    after: float
    by: str  # the arithmetic

    @property
    def factor(self) -> float:
        """How many times as good the figure becomes."""
        better, worse = (self.after, self.before) if self.figure == RATE else (self.before, self.after)
        return better / max(1e-9, worse)

    def __str__(self) -> str:
        return f"×{self.factor:.1f}, {self.before:,.0f} to {self.after:,.0f} {self.figure} ({self.by})"


@dataclass(frozen=True)
class Line:
    """The µs of an execution, by its batch size."""

    fixed_us: float
    each_us: float

    def us(self, size: float) -> float:
        """An execution of so many inferences."""
        return max(1.0, self.fixed_us + self.each_us * size)

    def __str__(self) -> str:
        return f"an execution of b inferences takes {self.fixed_us:,.0f} + {self.each_us:,.0f} · b µs"


def line_through(times: Mapping[int, Executions]) -> Line | None:
    """The line that fits measured times best; None where only one batch size was seen."""
    if len(times) < 2:
        return None
    sizes, us = np.array([*times], float), np.array([1000 * entry.ms for entry in times.values()])
    weights = np.array([entry.executions for entry in times.values()], float)
    each, fixed = np.polyfit(sizes, us, 1, w=np.sqrt(weights))
    if each < 0 or fixed < 0:  # Noise: neither can be.
        proportional = float(np.average(us / sizes, weights=weights)) if fixed < 0 else 0.0
        return Line(0.0 if fixed < 0 else float(np.average(us, weights=weights)), proportional)
    return Line(float(fixed), float(each))


def rate(callers: float, instances: int, largest: int, line: Line) -> float:
    """Requests per second of callers who each wait for an answer.

    Args:
        callers: how many.
        instances: of the model.
        largest: batch that an instance takes; 1 where requests are not batched.
        line: times of executions.
    """
    instances = max(1, instances)
    size = max(1.0, min(largest, callers / (instances + 1)))
    return min(callers, instances * size) / line.us(size) * 1e6
