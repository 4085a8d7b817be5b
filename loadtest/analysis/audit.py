"""Whether a run measured the server or the generator itself.

A generator that is late, or whose CPU is saturated, adds its own time to every latency. The audit says how much, and
calls a run invalid whose figures are the generator's.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from loadtest.analysis.intervals import Values, order_statistic, samples_required
from loadtest.analysis.tokens import first_token
from loadtest.generator.process import Sent
from loadtest.records import UNSENT

INVALID = 3  # exit code of a command whose generator was the bottleneck
_FULL_CPU = 0.9  # of one core: a busier event loop reads answers late
_OWN_SHARE = 0.1  # of a percentile that may be the generator's own lag
_OWN_FLOOR_S = 0.001  # lag that is always accepted
_AUDITED = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


@dataclass(frozen=True)
class Audit:
    """Figures of the generator."""

    processes: int
    cpu_share: float  # of one core, the busiest process's in its busiest second
    requests_per_core_s: int | None  # requests per CPU second of all processes
    lag_ms: dict[str, float]  # from due time to sending, as far as the generator was the cause: p50, p99, p99.9, max
    unsent: int  # requests that expired before they could be sent
    held: int  # requests that waited because the server owed answers on all connections; their wait is the server's
    problems: tuple[str, ...]  # why the run is invalid; empty when it is valid

    def document(self) -> dict[str, Any]:
        """As JSON."""
        document = {name: value for name, value in asdict(self).items() if name not in ("lag_ms", "problems")}
        return document | {f"lag_{name}_ms": value for name, value in self.lag_ms.items()}


def audit(sent: Sent) -> Audit:
    """Judge the generator by its records and its CPU time."""
    records, timed = sent.records, sent.records.timed()
    unsent = int(records.of(UNSENT).sum())
    problems = [f"{unsent:,} requests could not be sent in time"] if unsent else []
    if sent.busiest > _FULL_CPU:
        problems.append(f"a sending process was busy for {sent.busiest:.0%} of a second; try more --processes")
    latencies = timed.latency if timed.streams is None else first_token(timed)
    problems += _lag_problems(latencies, timed.lag)
    shares = {**_AUDITED, "max": 1.0}
    return Audit(
        processes=sent.processes,
        cpu_share=round(sent.busiest, 3),
        requests_per_core_s=round(len(records) / sent.cpu_s) if sent.cpu_s else None,
        lag_ms={name: round(1000 * order_statistic(records.lag, share), 3) for name, share in shares.items()},
        unsent=unsent,
        held=int(records.held.sum()),
        problems=tuple(problems),
    )


def _lag_problems(latencies: Values, lag: Values) -> Iterator[str]:
    for name, share in _AUDITED.items():
        if len(latencies) >= samples_required(share):
            whole = order_statistic(latencies, share)
            own = whole - order_statistic(latencies - lag, share)
            if own > max(_OWN_FLOOR_S, _OWN_SHARE * whole):
                yield f"{own / whole:.0%} of {name} ({1000 * whole:.3g} ms) is the generator's own lag"
