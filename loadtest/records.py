"""The outcome of every request: arrays that each sending process fills, and that are merged in the parent.

Every request is kept, not a summary: warm-up can be judged only at the end, and intervals need the order of events.
At thirty bytes per request, a minute at 5,000 requests per second takes 9 MB.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

Seconds = npt.NDArray[np.float64]

ANSWERED = "answered"
# Given up after the timeout. Its latency counts as the time it waited: without the slowest requests every percentile
# would look too good.
TIMED_OUT = "timeout"
# The generator itself was so late that the request had expired before it could be sent.
UNSENT = "unsent"


@dataclass
class Streamed:
    """What came of one request's stream: the messages that brought tokens."""

    moments: list[float] = field(default_factory=list)  # seconds, in `Records` from the request's due time
    tokens: list[int] = field(default_factory=list)  # in each message
    prompt_tokens: int = 0  # as the server counts them
    is_counted: bool = True  # whether the server counted each message's tokens, not all of them together
    error: str = ""

    def add(self, moment: float, tokens: int) -> None:
        """Note a message, unless it brought no tokens."""
        if tokens > 0:
            self.moments.append(moment)
            self.tokens.append(tokens)

    def spread(self, total: int) -> None:
        """Give each message an equal part of all tokens."""
        count = len(self.tokens)
        self.tokens = [total * (place + 1) // count - total * place // count for place in range(count)]


@dataclass(frozen=True)
class Records:
    """One row per request, in the order in which they were due; arrays are [requests], times in seconds."""

    due: Seconds  # from the start of the run (closed loop: when it was sent)
    lag: Seconds  # by which the generator itself was late
    latency: Seconds  # from the due time to the last byte of the answer, or to the failure
    outcome: npt.NDArray[np.int16]  # index into `kinds`
    held: npt.NDArray[np.bool_]  # whether it waited because the server owed answers on all connections
    kinds: tuple[str, ...]  # ANSWERED first, then the kinds of failure
    streams: npt.NDArray[np.object_] | None = None  # a `Streamed` for each request; None where answers are no streams

    def __len__(self) -> int:
        return len(self.due)

    def where(self, rows: npt.NDArray[np.bool_]) -> "Records":
        """Select rows by a mask."""
        streams = None if self.streams is None else self.streams[rows]
        return Records(
            self.due[rows], self.lag[rows], self.latency[rows], self.outcome[rows], self.held[rows], self.kinds, streams
        )

    def of(self, kind: str) -> npt.NDArray[np.bool_]:
        """[requests] mask of the rows with an outcome."""
        index = self.kinds.index(kind) if kind in self.kinds else -1
        return np.asarray(self.outcome == index, np.bool_)

    def timed(self) -> "Records":
        """The rows whose latency counts: answered, or given up after the whole timeout."""
        return self.where(self.of(ANSWERED) | self.of(TIMED_OUT))

    def failures(self) -> dict[str, int]:
        """Number of failed requests by kind, the most frequent first."""
        counts = np.bincount(self.outcome, minlength=len(self.kinds)).tolist()
        failed = {kind: count for kind, count in zip(self.kinds, counts, strict=True) if kind != ANSWERED and count}
        return dict(sorted(failed.items(), key=lambda item: -item[1]))


def merge(parts: Sequence[Records]) -> Records:
    """Merge the records of several processes in order of due time."""
    kinds = tuple(dict.fromkeys([ANSWERED, *(kind for part in parts for kind in part.kinds)]))
    outcomes = [np.array([kinds.index(kind) for kind in part.kinds], np.int16)[part.outcome] for part in parts]
    due = np.concatenate([part.due for part in parts])
    order = np.argsort(due, kind="stable")
    streams = [part.streams for part in parts if part.streams is not None]
    return Records(
        due[order],
        np.concatenate([part.lag for part in parts])[order],
        np.concatenate([part.latency for part in parts])[order],
        np.concatenate(outcomes)[order],
        np.concatenate([part.held for part in parts])[order],
        kinds,
        np.concatenate(streams)[order] if streams else None,
    )


def streams_of(notes: Mapping[int, Streamed], due: Sequence[float]) -> npt.NDArray[np.object_]:
    """[requests] what was noted, by number of the request, with times from its due time."""
    streams = np.empty(len(due), np.object_)
    for number, moment in enumerate(due):
        note = notes.get(number, Streamed())
        streams[number] = replace(note, moments=[later - moment for later in note.moments])
    return streams
