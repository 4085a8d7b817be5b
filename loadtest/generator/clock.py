"""An event loop with timers of microsecond resolution.

asyncio's own loop passes timeouts to epoll in whole milliseconds, rounded up, which would add half a millisecond to
every latency that is counted from a due time.
"""

import asyncio
import select
import selectors


class _PreciseSelector(selectors.EpollSelector):
    """Waits for the epoll descriptor with select(), whose timeout has microseconds."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout > 0:
            select.select([self.fileno()], [], [], timeout)
            timeout = 0
        return super().select(timeout)


def precise_loop() -> asyncio.AbstractEventLoop:
    """Make an event loop whose time() is CLOCK_MONOTONIC, the same clock in every process of this host."""
    return asyncio.SelectorEventLoop(_PreciseSelector())
