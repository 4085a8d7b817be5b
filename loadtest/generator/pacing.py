"""When a process sends: by a schedule, whatever the server does (open loop), or upon each answer (closed loop)."""

import asyncio
from collections import deque
from collections.abc import Sequence

from loadtest.generator.pool import Pool
from loadtest.records import TIMED_OUT


class OpenLoop:
    """Sends each request when it is due; one that finds no free lane waits here, its time counting all the while.

    Args:
        pool: lanes to send on.
        due: moments of the event loop's clock, rising.
    """

    def __init__(self, pool: Pool, due: Sequence[float]):
        self.pool = pool
        self.due = due
        self.next = 0
        self.waiting: deque[tuple[float, float]] = deque()  # due, lag
        self.over = asyncio.Event()
        pool.on_free = self.send_waiting

    async def run(self) -> None:
        """Send everything, and wait until each request is answered or given up."""
        self.dispatch()
        await self.over.wait()

    def dispatch(self) -> None:
        """Send what is due, and be called again when the next one is."""
        pool, loop = self.pool, self.pool.loop
        while self.next < len(self.due):
            due, now = self.due[self.next], loop.time()
            if due > now:
                loop.call_at(due, self.dispatch)
                return
            self.next += 1
            if now - due >= pool.timeout:
                pool.tally.unsent(due, now)
            elif self.waiting or not pool.begin(due, now - due):
                self.waiting.append((due, now - due))
        self.check_over()

    def send_waiting(self) -> None:
        """Send on lanes that have become free; give up what has waited too long."""
        now = self.pool.loop.time()
        while self.waiting:
            due, lag = self.waiting[0]
            if now - due >= self.pool.timeout:
                self.pool.tally.end(self.pool.tally.begin(due, lag, True), now, TIMED_OUT)
            elif not self.pool.begin(due, lag, held=True):
                break
            self.waiting.popleft()
        self.check_over()

    def check_over(self) -> None:
        """End when nothing is left to send and nothing is under way."""
        if self.next == len(self.due) and not self.waiting and not self.pool.tally.open:
            self.over.set()


class ClosedLoop:
    """So many callers, each sending its next request when the last one is answered, until a moment.

    A stalled server stalls these callers too, so that the requests which would have come meanwhile are missing from
    the figures (coordinated omission: G. Tene, How NOT to Measure Latency, 2013).
    """

    def __init__(self, pool: Pool, callers: int, start: float, end: float):
        self.pool = pool
        self.callers = callers
        self.start = start
        self.end = end
        self.over = asyncio.Event()
        pool.on_free = self.refill

    async def run(self) -> None:
        """Send until the end, and wait for what is under way."""
        await asyncio.sleep(max(0.0, self.start - self.pool.loop.time()))
        self.refill()
        await self.over.wait()

    def refill(self) -> None:
        """Give every caller that has nothing under way its next request."""
        now = self.pool.loop.time()
        if now < self.start:
            return
        while now < self.end and len(self.pool.busy) < self.callers and self.pool.begin(now, 0.0):
            pass
        if now >= self.end and not self.pool.tally.open:
            self.over.set()
