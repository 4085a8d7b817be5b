"""When a process sends: on a schedule, whatever the server does (open loop), or after each answer (closed loop)."""

import asyncio
from collections import deque
from collections.abc import Sequence

from loadtest.generator.pool import Pool
from loadtest.records import TIMED_OUT


class OpenLoop:
    """Sends each request when it is due; one that finds no free lane waits, and its latency includes the wait."""

    def __init__(self, pool: Pool, due: Sequence[float]):
        self._pool = pool
        self._due = due  # on the event loop's clock, rising
        self._next = 0
        self._waiting: deque[tuple[float, float]] = deque()  # due, lag
        self._over = asyncio.Event()
        pool.on_free = self._send_waiting

    async def run(self) -> None:
        """Send all requests, and wait until each is answered or given up."""
        self._dispatch()
        await self._over.wait()

    def _dispatch(self) -> None:
        pool, loop = self._pool, self._pool.loop
        while self._next < len(self._due):
            due, now = self._due[self._next], loop.time()
            if due > now:
                loop.call_at(due, self._dispatch)
                return
            self._next += 1
            if now - due >= pool.timeout:
                pool.tally.unsent(due, now)
            elif self._waiting or not pool.begin(due, now - due):
                self._waiting.append((due, now - due))
        self._check_over()

    def _send_waiting(self) -> None:
        now = self._pool.loop.time()
        while self._waiting:
            due, lag = self._waiting[0]
            if now - due >= self._pool.timeout:
                self._pool.tally.end(self._pool.tally.begin(due, lag, True), now, TIMED_OUT)
            elif not self._pool.begin(due, lag, held=True):
                break
            self._waiting.popleft()
        self._check_over()

    def _check_over(self) -> None:
        if self._next == len(self._due) and not self._waiting and not self._pool.tally.open:
            self._over.set()


class ClosedLoop:
    """Callers who each send their next request when the last one is answered, from a start to an end.

    A stalled server stalls these callers too, so the requests that would have arrived meanwhile are missing from the
    figures (coordinated omission: G. Tene, How NOT to Measure Latency, 2013).
    """

    def __init__(self, pool: Pool, callers: int, start: float, end: float):
        self._pool = pool
        self._callers = callers
        self._start = start
        self._end = end
        self._over = asyncio.Event()
        pool.on_free = self._refill

    async def run(self) -> None:
        """Send until the end, and wait for the requests under way."""
        await asyncio.sleep(max(0.0, self._start - self._pool.loop.time()))
        self._refill()
        await self._over.wait()

    def _refill(self) -> None:
        now = self._pool.loop.time()
        if now < self._start:
            return
        while now < self._end and len(self._pool.busy) < self._callers and self._pool.begin(now, 0.0):
            pass
        if now >= self._end and not self._pool.tally.open:
            self._over.set()
