"""What one process notes of its requests while it sends: plain lists, which are quicker to fill than arrays."""

import numpy as np

from loadtest.records import ANSWERED, UNSENT, Records

# A server may put something different into every message: beyond so many kinds all further ones are one.
MOST_KINDS = 100
OTHER = "other failures"


class Tally:
    """Fills up while a process sends; `records` turns it into arrays. All times are seconds of the event loop's clock.

    Attributes:
        open: how many requests have been begun and not ended.
    """

    def __init__(self, start: float):
        self.start = start
        self.due: list[float] = []
        self.lag: list[float] = []
        self.latency: list[float] = []
        self.outcome: list[int] = []
        self.held: list[bool] = []
        self.kinds: dict[str, int] = {ANSWERED: 0}
        self.open = 0

    def begin(self, due: float, lag: float, held: bool) -> int:
        """Note a request that was due; returns its number."""
        self.due.append(due)
        self.lag.append(lag)
        self.latency.append(float("nan"))
        self.outcome.append(-1)
        self.held.append(held)
        self.open += 1
        return len(self.due) - 1

    def end(self, number: int, moment: float, kind: str = ANSWERED) -> None:
        """Note what became of a request."""
        self.latency[number] = moment - self.due[number]
        kind = kind if kind in self.kinds or len(self.kinds) < MOST_KINDS else OTHER
        self.outcome[number] = self.kinds.setdefault(kind, len(self.kinds))
        self.open -= 1

    def unsent(self, due: float, moment: float) -> None:
        """Note a request that was never sent."""
        self.end(self.begin(due, moment - due, False), moment, UNSENT)

    def records(self) -> Records:
        """Everything that was noted."""
        return Records(
            np.array(self.due, np.float64) - self.start,
            np.array(self.lag, np.float64),
            np.array(self.latency, np.float64),
            np.array(self.outcome, np.int16),
            np.array(self.held, np.bool_),
            tuple(self.kinds),
        )
