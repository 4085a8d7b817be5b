"""Timeouts for downloads: torchvision sets none, and a network that drops packets blocks it for minutes."""

import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException

# Enough for a slow link, and a short wait on a host without a network.
ANSWER_SECONDS = 3.0
# The longest pause in a running download.
SILENCE_SECONDS = 20.0


@contextmanager
def network_timeout(seconds: float = SILENCE_SECONDS) -> Iterator[None]:
    """Let network operations in the block raise TimeoutError when they have waited this long for a byte."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def is_available(url: str, seconds: float = ANSWER_SECONDS) -> bool:
    """Whether a HEAD request for this URL succeeds within `seconds`."""
    available = threading.Event()

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD")
        with suppress(OSError, HTTPException), urllib.request.urlopen(request, timeout=seconds):
            available.set()

    # In a thread, because name resolution ignores the timeout.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return available.is_set()
