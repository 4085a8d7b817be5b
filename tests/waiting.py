"""Waiting for what comes to be in a while."""

import time
from collections.abc import Callable

SOON_S = 5.0


def soon(condition: Callable[[], bool], seconds: float = SOON_S) -> bool:
    """Whether something comes to be, within seconds."""
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return met
