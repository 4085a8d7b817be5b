"""The outcome of every request: arrays that each sending process fills, and that are merged in the parent.

Every request is kept, not a summary: warm-up can be judged only at the end, and intervals need the order of events.
At thirty bytes per request, a minute at 5,000 requests per second takes 9 MB.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Seconds = npt.NDArray[np.float64]

ANSWERED = "answered"
# Given up after the timeout. Its latency counts as the time it waited: without the slowest requests every percentile
# would look too good.
TIMED_OUT = "timeout"
# The generator itself was so late that the request had expired before it could be sent.
UNSENT = "unsent"


@dataclass(frozen=True)
class Records:
    """One row per request, in the order in which they were due; arrays are [requests], times in seconds."""

    due: Seconds  # from the start of the run (closed loop: when it was sent)
    lag: Seconds  # by which the generator itself was late
    latency: Seconds  # from the due time to the last byte of the answer, or to the failure
    outcome: npt.NDArray[np.int16]  # index into `kinds`
    held: npt.NDArray[np.bool_]  # whether it waited because the server owed answers on all connections
    kinds: tuple[str, ...]  # ANSWERED first, then the kinds of failure

    def __len__(self) -> int:
        return len(self.due)

    def where(self, rows: npt.NDArray[np.bool_]) -> "Records":
        """Select rows by a mask."""
        return Records(
            self.due[rows], self.lag[rows], self.latency[rows], self.outcome[rows], self.held[rows], self.kinds
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
    return Records(
        due[order],
        np.concatenate([part.lag for part in parts])[order],
        np.concatenate([part.latency for part in parts])[order],
        np.concatenate(outcomes)[order],
        np.concatenate([part.held for part in parts])[order],
        kinds,
    )
