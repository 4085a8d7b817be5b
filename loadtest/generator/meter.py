"""The cost of sending: this process's CPU time, and its share of a core in the busiest second."""

import asyncio
import time

_SECOND = 1.0


class Meter:
    """Measures from construction, within an event loop, to `stop`.

    Attributes:
        cpu_s: CPU seconds of all threads of this process.
        wall_s: seconds in which they were used.
        busiest: share of one core in the busiest second, or over the whole of a shorter run.
    """

    def __init__(self) -> None:
        self.cpu_s = self.wall_s = self.busiest = 0.0
        self._cpu, self._wall = time.process_time(), time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(_SECOND, self._read)

    def _read(self) -> None:
        self._add()
        self._timer = asyncio.get_running_loop().call_later(_SECOND, self._read)

    def _add(self) -> None:
        cpu, wall = time.process_time(), time.monotonic()
        used, passed = cpu - self._cpu, wall - self._wall
        # A fraction of a second at the end is too short to judge, unless it is the whole run.
        if passed >= _SECOND / 2 or not self.wall_s:
            self.busiest = max(self.busiest, used / max(passed, 1e-9))
        self.cpu_s += used
        self.wall_s += passed
        self._cpu, self._wall = cpu, wall

    def stop(self) -> None:
        """Add what was used since the last full second."""
        self._timer.cancel()
        self._add()
