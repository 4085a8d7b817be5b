"""Whether the generator measured the server or itself.

A generator that is late, or whose processor is full, adds its own time to every latency. This says how much, and calls
a run invalid whose figures are the generator's.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from loadtest.generator.fleet import Sent
from loadtest.intervals import Values, needed, rank
from loadtest.records import UNSENT, Records
from loadtest.validity import FULL_CPU, OWN_FLOOR_S, OWN_SHARE

AUDITED = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


@dataclass(frozen=True)
class Audit:
    """The generator's own figures.

    Attributes:
        lag: [requests] seconds from the due time to the sending, as far as the generator itself was the reason.
        cpu_share: of one core, the busiest process's in its busiest second.
        cpu_s: processor seconds per request, all processes together.
        unsent: requests whose time was over before they could be sent.
        held: requests that waited because the server owed answers on all connections; their wait is the server's.
        problems: why the run is invalid; empty when it is not.
    """

    processes: int
    lag: Values
    cpu_share: float
    cpu_s: float
    unsent: int
    held: int
    problems: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """As JSON."""
        shares = {**AUDITED, "max": 1.0}
        lags = {f"lag_{name}_ms": round(1000 * float(at(self.lag, share)), 3) for name, share in shares.items()}
        return {
            "processes": self.processes,
            "cpu_share": round(self.cpu_share, 3),
            "requests_per_core_s": round(1 / self.cpu_s) if self.cpu_s else None,
            **lags,
            "unsent": self.unsent,
            "held": self.held,
        }


def at(values: Values, share: float) -> float:
    """The order statistic at a share of the values."""
    return float(np.sort(values)[rank(len(values), share)])


def audit(sent: Sent) -> Audit:
    """Judge the generator by what it noted."""
    records = sent.records
    unsent = int(records.of(UNSENT).sum())
    problems = [f"{unsent:,} requests could not be sent in time"] if unsent else []
    if sent.busiest > FULL_CPU:
        problems.append(f"a sending process was busy for {sent.busiest:.0%} of a second; try more --processes")
    problems += own_shares(records)
    return Audit(
        sent.processes,
        records.lag,
        sent.busiest,
        sent.cpu_s / len(records),
        unsent,
        int(records.held.sum()),
        tuple(problems),
    )


def own_shares(records: Records) -> list[str]:
    """The percentiles of which too much is the generator's lag: what they are with it and without it."""
    timed = records.timed()
    found = []
    for name, share in AUDITED.items():
        if len(timed) < needed(share):
            continue
        whole, without = at(timed.latency, share), at(timed.latency - timed.lag, share)
        if whole - without > max(OWN_FLOOR_S, OWN_SHARE * whole):
            found.append(
                f"{(whole - without) / whole:.0%} of {name} ({1000 * whole:.3g} ms) is the generator's own lag"
            )
    return found
