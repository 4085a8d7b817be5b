"""The lanes of one process: which are free, which are busy, and which have exceeded the timeout."""

import asyncio
from collections.abc import Callable

from loadtest.generator.lane import Finished, Lane
from loadtest.generator.tally import Tally
from loadtest.records import TIMED_OUT

_SWEEP_S = 0.05


class Pool:
    """Lends lanes; from construction within a running event loop to `close`.

    Args:
        make: makes a lane that reports to a function.
        most: the most lanes.
        tally: where requests are noted.
        timeout: seconds after its due time when a request is given up.
    """

    def __init__(self, make: Callable[[Finished], Lane], most: int, tally: Tally, timeout: float):
        self._make = make
        self._most = most
        self.tally = tally
        self.timeout = timeout
        self.loop = asyncio.get_running_loop()
        self._lanes: list[Lane] = []
        self._free: list[Lane] = []
        self.busy: dict[Lane, int] = {}
        self.on_free: Callable[[], None] = lambda: None
        self._sweeper = self.loop.call_later(_SWEEP_S, self._sweep)

    async def open(self, count: int) -> None:
        """Connect a number of lanes before the test begins.

        Raises:
            OSError: nothing answers.
        """
        self._free = [self._add() for _ in range(min(count, self._most))]
        for lane in self._free:
            await lane.open()

    def _add(self) -> Lane:
        lane = self._make(self._finished)
        self._lanes.append(lane)
        return lane

    def begin(self, due: float, lag: float, held: bool = False) -> bool:
        """Send a request; returns False when all lanes are busy and there can be no more."""
        if self._free:
            # The lane that was freed last: the fewest connections stay in use, and those stay warm.
            lane = self._free.pop()
        elif len(self._lanes) < self._most:
            lane = self._add()
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
