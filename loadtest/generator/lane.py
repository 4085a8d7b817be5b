"""A lane carries one request at a time: an HTTP connection, or a call on a gRPC channel."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from clients.connection import Connection
from clients.failures import without_trace
from loadtest.records import ANSWERED

# Called once per request with the lane that carried it, its number and its outcome (ANSWERED or a kind of failure).
Finished = Callable[["Lane", int, str], None]


@dataclass(frozen=True)
class Target:
    """Requests as they go over the wire, and where to send them."""

    connection: Connection
    requests: tuple[bytes, ...]
    answer_bytes: int  # least size of a complete answer
    stream: str = ""  # protocol of a language model's streams (see `loadtest.prompts`); empty for single answers


class Lane(Protocol):
    """Carries one request at a time; belongs to one event loop."""

    async def open(self) -> None:
        """Connect before the test begins. Raises OSError when nothing answers."""

    def send(self, number: int) -> None:
        """Start a request and return at once; its number selects the body."""

    def give_up(self) -> None:
        """Abandon the request under way; `finished` is not called for it."""

    async def close(self) -> None:
        """Close the connection."""


def failure_kind(status: str, message: str) -> str:
    """The name of a failure in the report."""
    return f"{status}: {without_trace(message):.200}".strip().rstrip(":")


def size_outcome(size: int, least: int) -> str:
    """The outcome of a successful answer of `size` bytes: ANSWERED, or too short for the requested output."""
    return ANSWERED if size >= least else f"truncated answer: {size} bytes, expected at least {least}"
