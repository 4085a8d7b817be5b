"""What carries one request at a time: an HTTP connection, or a call on a gRPC channel."""

from collections.abc import Callable
from typing import Protocol

from loadtest.records import ANSWERED

# Called once per request with the lane that carried it, its number and what became of it (ANSWERED or a failure).
Finished = Callable[["Lane", int, str], None]


class Lane(Protocol):
    """Carries one request at a time; belongs to one event loop."""

    async def open(self) -> None:
        """Connect before the test begins. Raises OSError when nothing answers."""

    def send(self, number: int) -> None:
        """Send the body whose turn it is; comes back at once."""

    def give_up(self) -> None:
        """Forget the request under way; `finished` is not called for it."""

    async def close(self) -> None:
        """Close the connection."""


def kind_of(status: str, message: str) -> str:
    """A failure's name in the report."""
    return f"{status}: {message:.200}".strip().rstrip(":")


def check_size(size: int, least: int) -> str:
    """What an answer of `size` bytes is when at least so many were expected."""
    return ANSWERED if size >= least else f"{size} bytes are too few for the outputs"
