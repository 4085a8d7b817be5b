"""Limits for downloads: torchvision sets none, and a network that swallows packets holds it for minutes."""

import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException

# Enough for a slow link to answer, short enough to wait for on a host without a network.
ANSWER_SECONDS = 3.0
# The longest silence within a download that has begun.
SILENCE_SECONDS = 20.0


@contextmanager
def patience(seconds: float = SILENCE_SECONDS) -> Iterator[None]:
    """Let no network operation in the block wait longer than this for a byte; it raises TimeoutError then."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def answers(url: str, seconds: float = ANSWER_SECONDS) -> bool:
    """Whether a server offers this URL; one request for its headers, given up after `seconds`."""
    offered = threading.Event()

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD")
        with suppress(OSError, HTTPException), urllib.request.urlopen(request, timeout=seconds):
            offered.set()

    # In a thread, because looking up the host's name ignores the timeout and may take longer.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return offered.is_set()
