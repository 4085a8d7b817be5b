"""How requests were spread over replicas, by what the replicas themselves counted, and when the spread is even."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clients.connection import PROTOCOLS, Protocol

_WINDOW_S, _STEP_S = 2.0, 0.1
# Of its even share: what a replica must get for the balance to be even.
_LEAST = 0.7


@dataclass(frozen=True)
class Course:
    """The counters of replicas over time."""

    # By replica: the time, and how many inferences each protocol's callers got.
    looks: dict[str, list[tuple[float, ...]]]

    def shares(self, protocol: Protocol, start: float, end: float) -> dict[str, float]:
        """Each replica's share of the requests that were answered from one time to another."""
        counts = {name: self._count(name, protocol, end) - self._count(name, protocol, start) for name in self.looks}
        total = sum(counts.values())
        return {name: count / total if total else 0.0 for name, count in counts.items()}

    def even_after(self, names: Sequence[str], start: float, end: float) -> float | None:
        """Seconds from a time until these replicas got even shares of both protocols, and did so until the end.

        None if they never did. A replica that was started again counts from zero.
        """
        after, moment = None, end - _WINDOW_S
        while moment >= start and all(self._is_even(names, protocol, moment) for protocol in PROTOCOLS):
            after, moment = moment - start, moment - _STEP_S
        return after if after is None else round(max(0.0, after), 1)

    def _is_even(self, names: Sequence[str], protocol: Protocol, start: float) -> bool:
        shares = self.shares(protocol, start, start + _WINDOW_S)
        return min(shares[name] for name in names) >= _LEAST / len(names)

    def _count(self, name: str, protocol: Protocol, moment: float) -> float:
        times, *counts = np.array(self.looks[name]).T
        # A server that was started again counts from zero.
        steps = np.maximum(0, np.diff(counts[PROTOCOLS.index(protocol)], prepend=0.0))
        return float(np.interp(moment, times, np.cumsum(steps)))


def text(shares: dict[str, float]) -> str:
    """Shares in percent, in the order of the replicas."""
    return " / ".join(f"{100 * share:.0f}" for share in shares.values())
