"""The lanes of one process, and its notes on the requests that they carry."""

import asyncio
from collections.abc import Callable, Mapping

import numpy as np

from loadtest.generator.lane import Finished, Lane
from loadtest.records import ANSWERED, TIMED_OUT, UNSENT, Records, Streamed, streams_of

_SWEEP_S = 0.05
# A server may put something different into every message: further kinds of failure are counted as one.
_MOST_KINDS = 100


class Tally:
    """Notes on requests in plain lists, which fill faster than arrays; times are the event loop's, in seconds."""

    def __init__(self, start: float):
        self.start = start
        self.due: list[float] = []
        self.lag: list[float] = []
        self.latency: list[float] = []
        self.outcome: list[int] = []
        self.held: list[bool] = []
        self.kinds: dict[str, int] = {ANSWERED: 0}
        self.open = 0  # requests that have begun and not ended

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
        kind = kind if kind in self.kinds or len(self.kinds) < _MOST_KINDS else "other failures"
        self.outcome[number] = self.kinds.setdefault(kind, len(self.kinds))
        self.open -= 1

    def unsent(self, due: float, moment: float) -> None:
        """Note a request that was never sent."""
        self.end(self.begin(due, moment - due, False), moment, UNSENT)

    def records(self, notes: Mapping[int, Streamed] | None = None) -> Records:
        """Convert the notes to arrays; those on streams, by request, too."""
        return Records(
            np.array(self.due, np.float64) - self.start,
            np.array(self.lag, np.float64),
            np.array(self.latency, np.float64),
            np.array(self.outcome, np.int16),
            np.array(self.held, np.bool_),
            tuple(self.kinds),
            None if notes is None else streams_of(notes, self.due),
        )


class Pool:
    """Lends lanes; from construction within a running event loop to `close`."""

    def __init__(self, make: Callable[[Finished], Lane], most: int, tally: Tally, timeout: float):
        self._make = make  # makes a lane that reports to a function
        self._most = most  # lanes
        self.tally = tally  # where requests are noted
        self.timeout = timeout  # seconds after its due time when a request is given up
        self.loop = asyncio.get_running_loop()
        self._lanes: list[Lane] = []
        self._free: list[Lane] = []
        self.busy: dict[Lane, int] = {}
        self.on_free: Callable[[], None] = lambda: None
        self._sweeper = self.loop.call_later(_SWEEP_S, self._sweep)

    async def open(self, count: int) -> None:
        """Connect a number of lanes before the test begins. Raises OSError when nothing answers."""
        self._lanes = [self._make(self._finished) for _ in range(min(count, self._most))]
        self._free = list(self._lanes)
        for lane in self._lanes:
            await lane.open()

    def begin(self, due: float, lag: float, held: bool = False) -> bool:
        """Send a request; returns False when all lanes are busy and there can be no more."""
        if self._free:
            # The lane that was freed last: the fewest connections stay in use, and those stay warm.
            lane = self._free.pop()
        elif len(self._lanes) < self._most:
            lane = self._make(self._finished)
            self._lanes.append(lane)
        else:
            return False
        number = self.busy[lane] = self.tally.begin(due, lag, held)
        lane.send(number)
        return True

    def _finished(self, lane: Lane, number: int, kind: str) -> None:
        self.tally.end(number, self.loop.time(), kind)
        del self.busy[lane]
        self._free.append(lane)
        self.on_free()

    def _sweep(self) -> None:
        now = self.loop.time()
        late = [(lane, number) for lane, number in self.busy.items() if now - self.tally.due[number] >= self.timeout]
        for lane, number in late:
            lane.give_up()
            self._finished(lane, number, TIMED_OUT)
        self.on_free()
        self._sweeper = self.loop.call_later(_SWEEP_S, self._sweep)

    async def close(self) -> None:
        """Close all connections."""
        self._sweeper.cancel()
        for lane in self._lanes:
            await lane.close()
