"""What a large inference reads its rows through, wherever they come from.

A source knows how many rows there are and makes the requests of any stretch of them when asked, so that a set of any
size passes through a fixed amount of memory. `image_source` and `array_source` hold the two kinds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from clients.contract import Array


@dataclass(frozen=True)
class Loaded:
    """A stretch of rows, ready to be sent.

    Attributes:
        requests: the good rows in order, each request's inputs by name.
        errors: why a row is in none of them, by row.
    """

    requests: list[dict[str, Array]]
    errors: dict[int, str] = field(default_factory=dict)


class Source(Protocol):
    """Rows to run a model on.

    Attributes:
        column: what names a row in the output: "file" or "row".
        identity: what the rows are, as JSON; the same rows have the same identity in the next run.
    """

    @property
    def rows(self) -> int:
        """How many."""

    @property
    def column(self) -> str:
        """See above."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """See above."""

    def labels(self, rows: range) -> Array:
        """What names these rows: file names (str), or row numbers (int64)."""

    def load(self, rows: range) -> Loaded:
        """Read these rows; slow, and safe to call from a thread."""
