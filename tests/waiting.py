"""Waiting for what comes to be in a while, on a host that others use too: by a condition, never for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

# Many times what anything takes: whoever waits so long waits in vain.
SOON_S = 60.0
_SETTLED_S = 0.1
Read = TypeVar("Read")


def soon(condition: Callable[[], bool], seconds: float = SOON_S, pause: float = 0.05) -> bool:
    """Whether something comes to be, within seconds."""
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(pause)
    return met


def settled(read: Callable[[], Read], pause: float = _SETTLED_S) -> Read:
    """What is read twice in a row, a pause apart: Triton counts a request a moment after it has answered it."""
    before, seen = None, read()
    deadline = time.monotonic() + SOON_S
    while seen != before and time.monotonic() < deadline:
        time.sleep(pause)
        before, seen = seen, read()
    return seen
