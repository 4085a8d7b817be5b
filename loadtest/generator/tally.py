"""Notes on the requests of one process while it sends: plain lists, which are faster to fill than arrays."""

import numpy as np

from loadtest.records import ANSWERED, UNSENT, Records

# A server may put something different into every message: further kinds of failure are counted as one.
_MOST_KINDS = 100
_OTHER = "other failures"


class Tally:
    """Fills up while a process sends; all times are seconds of the event loop's clock.

    Attributes:
        open: number of requests that have begun and not ended.
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
        """Note the start of a request; returns its number."""
        self.due.append(due)
        self.lag.append(lag)
        self.latency.append(float("nan"))
        self.outcome.append(-1)
        self.held.append(held)
        self.open += 1
        return len(self.due) - 1

    def end(self, number: int, moment: float, kind: str = ANSWERED) -> None:
        """Note the outcome of a request."""
        self.latency[number] = moment - self.due[number]
        kind = kind if kind in self.kinds or len(self.kinds) < _MOST_KINDS else _OTHER
        self.outcome[number] = self.kinds.setdefault(kind, len(self.kinds))
        self.open -= 1

    def unsent(self, due: float, moment: float) -> None:
        """Note a request that was never sent."""
        self.end(self.begin(due, moment - due, False), moment, UNSENT)

    def records(self) -> Records:
        """Convert the notes to arrays."""
        return Records(
            np.array(self.due, np.float64) - self.start,
            np.array(self.lag, np.float64),
            np.array(self.latency, np.float64),
            np.array(self.outcome, np.int16),
            np.array(self.held, np.bool_),
            tuple(self.kinds),
        )
