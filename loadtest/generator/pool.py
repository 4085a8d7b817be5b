"""The lanes of one process: which are free, which carry a request, and which have carried it for too long."""

import asyncio
from collections.abc import Callable

from loadtest.generator.lane import Finished, Lane
from loadtest.generator.tally import Tally
from loadtest.records import TIMED_OUT

SWEEP_S = 0.05


class Pool:
    """Lends lanes; from construction within a running event loop to `close`.

    Args:
        make: makes a lane that reports to the given function.
        most: how many lanes there may be.
        tally: where requests are noted.
        timeout: seconds after its due time at which a request is given up.
    """

    def __init__(self, make: Callable[[Finished], Lane], most: int, tally: Tally, timeout: float):
        self.make = make
        self.most = most
        self.tally = tally
        self.timeout = timeout
        self.loop = asyncio.get_running_loop()
        self.lanes: list[Lane] = []
        self.free: list[Lane] = []
        self.busy: dict[Lane, int] = {}
        self.on_free: Callable[[], None] = lambda: None
        self.sweeper = self.loop.call_later(SWEEP_S, self.sweep)

    async def open(self, count: int) -> None:
        """Connect so many lanes before the test begins.

        Raises:
            OSError: nothing answers.
        """
        self.free = [self._add() for _ in range(min(count, self.most))]
        for lane in self.free:
            await lane.open()

    def _add(self) -> Lane:
        lane = self.make(self.finished)
        self.lanes.append(lane)
        return lane

    def begin(self, due: float, lag: float, held: bool = False) -> bool:
        """Send a request; False when all lanes are busy and there may be no more."""
        if self.free:
            # The lane that came back last: few connections stay warm instead of many lukewarm.
            lane = self.free.pop()
        elif len(self.lanes) < self.most:
            lane = self._add()
        else:
            return False
        number = self.busy[lane] = self.tally.begin(due, lag, held)
        lane.send(number)
        return True

    def finished(self, lane: Lane, number: int, kind: str) -> None:
        """Note an answer or a failure, and hand the lane on."""
        self.tally.end(number, self.loop.time(), kind)
        del self.busy[lane]
        self.free.append(lane)
        self.on_free()

    def sweep(self) -> None:
        """Give up what has waited for the whole timeout; the oldest come first."""
        now = self.loop.time()
        late = [(lane, number) for lane, number in self.busy.items() if now - self.tally.due[number] >= self.timeout]
        for lane, number in late:
            lane.give_up()
            self.finished(lane, number, TIMED_OUT)
        self.on_free()
        self.sweeper = self.loop.call_later(SWEEP_S, self.sweep)

    async def close(self) -> None:
        """Close all connections."""
        self.sweeper.cancel()
        for lane in self.lanes:
            await lane.close()
