"""The clocks of a sending process: an event loop with precise timers, and a meter of CPU time."""

import asyncio
import select
import selectors
import time

_SECOND = 1.0


class _PreciseSelector(selectors.EpollSelector):
    """Waits for the epoll descriptor with select(), whose timeout has microseconds.

    asyncio passes timeouts to epoll in whole milliseconds, rounded up, which would add half a millisecond to every
    latency that is counted from a due time.
    """

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout > 0:
            select.select([self.fileno()], [], [], timeout)
            timeout = 0
        return super().select(timeout)


def precise_loop() -> asyncio.AbstractEventLoop:
    """Make an event loop whose time() is CLOCK_MONOTONIC, the same clock in every process of this host."""
    return asyncio.SelectorEventLoop(_PreciseSelector())


class Meter:
    """The cost of sending, from construction within an event loop to `stop`."""

    def __init__(self) -> None:
        self.cpu_s = self.wall_s = 0.0  # CPU seconds of all threads, and the seconds in which they were used
        self.busiest = 0.0  # share of one core in the busiest second, or over the whole of a shorter run
        self._cpu, self._wall = time.process_time(), time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(_SECOND, self._read)

    def _read(self) -> None:
        self.stop()
        self._timer = asyncio.get_running_loop().call_later(_SECOND, self._read)

    def stop(self) -> None:
        """Add what was used since the last full second."""
        self._timer.cancel()
        cpu, wall = time.process_time(), time.monotonic()
        used, passed = cpu - self._cpu, wall - self._wall
        # A fraction of a second at the end is too short to judge, unless it is the whole run.
        if passed >= _SECOND / 2 or not self.wall_s:
            self.busiest = max(self.busiest, used / max(passed, 1e-9))
        self.cpu_s += used
        self.wall_s += passed
        self._cpu, self._wall = cpu, wall
