"""A trial: one load on the server, what the client and the server saw of it, and how a file keeps it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from loadtest import slo

Document = dict[str, Any]  # JSON


@dataclass(frozen=True)
class ServerSide:
    """What the server counted during a trial: means, executions by batch size, processor seconds, requests."""

    mean_batch: float | None = None
    queue_us: float | None = None
    batches: Document | None = None
    busy_instances: float | None = None
    cpu_s: float | None = None
    requests: int = 0


@dataclass(frozen=True)
class Trial:
    """The outcome of one load.

    Attributes:
        rate: arrivals per second of an open loop.
        valid: whether the generator kept up; if not, the trial says nothing about the server.
        steady: whether the server kept up with the arrivals.
        latency_ms: by percentile, "p99" say; None where too few requests were answered.
        concurrency: callers of a closed loop.
        sender_us: processor time of the generator per request.
        parts: the trial of each model, where several shared the server.
    """

    rate: float | None
    valid: bool
    passed: bool
    steady: bool
    latency_ms: Mapping[str, float | None]
    server: ServerSide = ServerSide()
    concurrency: int | None = None
    requests: int = 0
    errors: int = 0
    mean_ms: float | None = None
    rps: float | None = None
    duration_s: float = 0.0
    sender_us: float | None = None
    server_rps: float | None = None
    parts: tuple["Trial", ...] = ()

    @property
    def is_sustained(self) -> bool:
        """Whether the objectives were met and the server kept up."""
        return self.valid and self.passed and self.steady

    @property
    def verdict(self) -> str:
        """The outcome in a few words."""
        return ("sustained" if self.is_sustained else "not sustained") if self.valid else "generator too slow"

    def document(self) -> Document:
        """Return the trial as JSON."""
        document = asdict(self)
        latencies = {f"{name}_ms": value for name, value in document.pop("latency_ms").items()}
        del document["parts"]
        return document | latencies | ({"parts": [part.document() for part in self.parts]} if self.parts else {})


def trial_from(document: Document) -> Trial:
    """Read a trial from the JSON of a record or of a load test."""
    if "parts" in document:
        return join_trials(document["rate"], [trial_from(part) for part in document["parts"]])
    latencies = {name: document.get(f"{name}_ms") for name in slo.PERCENTILES}
    server = ServerSide(**_pick(document["server"], ServerSide))
    return Trial(**_pick(document, Trial) | {"latency_ms": latencies, "server": server})


def _pick(document: Document, kind: type[Trial] | type[ServerSide]) -> Document:
    return {field.name: document[field.name] for field in fields(kind) if field.name in document}


def join_trials(rate: float, parts: Sequence[Trial]) -> Trial:
    """Combine simultaneous trials of several models: total rate, worst latency, verdicts that hold for all of them."""

    def worst(name: str) -> float | None:
        known = [latency for part in parts if (latency := part.latency_ms[name]) is not None]
        return max(known) if len(known) == len(parts) else None

    return Trial(
        rate,
        valid=all(part.valid for part in parts),
        passed=all(part.passed for part in parts),
        steady=all(part.steady for part in parts),
        latency_ms={name: worst(name) for name in slo.PERCENTILES},
        parts=tuple(parts),
    )
