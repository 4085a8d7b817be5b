"""An event loop that wakes within microseconds of the wanted time.

asyncio's usual loop hands its timeouts to epoll in whole milliseconds, rounded up: half a millisecond of every latency
that counts from a due time would be the generator's own.
"""

import asyncio
import select
import selectors


class PreciseSelector(selectors.EpollSelector):
    """Waits for the epoll descriptor, which is one like any other, with select(), which takes microseconds."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Descriptors that are ready, after `timeout` seconds at the latest; None waits for ever."""
        if timeout is not None and timeout > 0:
            select.select([self.fileno()], [], [], timeout)
            timeout = 0
        return super().select(timeout)


def precise_loop() -> asyncio.AbstractEventLoop:
    """A new event loop of that kind; its time() is CLOCK_MONOTONIC, the same in every process of this host."""
    return asyncio.SelectorEventLoop(PreciseSelector())
