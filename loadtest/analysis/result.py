"""The result of one run of the generator: what was sent, what the client saw, what the server did."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from loadtest.analysis.audit import Audit
from loadtest.analysis.figures import Figures
from loadtest.analysis.machine import host
from loadtest.analysis.predict import Gain
from loadtest.analysis.server_side import ServerSide
from loadtest.analysis.tokens import TokenFigures
from loadtest.load import Load
from loadtest.slo import Objective, missed

# The figures of an invalid run that are still true; the others would be the generator's.
_VALID_ALWAYS = {"requests", "errors", "error_kinds", "offered_rps"}


@dataclass(frozen=True)
class Finding:
    """One bound of a run, the evidence for it, and what should help."""

    # client, errors, callers in turn, batching, preferred sizes, instances, too many instances, response cache,
    # queue delay, queue, cores, compute, network or nothing
    bound: str
    why: str  # the figures behind it
    change: str  # what to try
    gain: str  # the most that it should bring
    predicted: Gain | None = None  # the same in numbers, where they suffice

    def __str__(self) -> str:
        return f"{self.bound}: {self.why}. Try {self.change}: {self.gain}."


@dataclass(frozen=True)
class ScenarioFigure:
    """The one figure that a scenario reports; `value` is None where it was not measured."""

    name: str
    figure: str
    value: float | bool | None
    unit: str


@dataclass(frozen=True)
class RunResult:
    """One run; `figures` of an invalid run must not be used, see `is_valid`."""

    model: str
    protocol: str
    url: str
    load: Load
    seed: int
    client_batch: int
    payload: str  # source of the inputs, samples or synthetic
    warm_up_s: float  # seconds that `figures` leave out
    started: float  # on CLOCK_MONOTONIC, in seconds
    figures: Figures
    objectives: Sequence[Objective]
    generator: Audit
    steady: bool | None  # whether the server kept up; None where the rate varied
    server: ServerSide  # what the server did, warm-up included
    stages_us: dict[str, float]  # per request by stage, warm-up included; empty for an invalid run
    explanation: tuple[Finding, ...] = ()  # what bounds the run, the most important first
    scenario: ScenarioFigure | None = None
    tokens: TokenFigures | None = None  # of a language model

    @property
    def is_valid(self) -> bool:
        """Whether the figures are the server's; otherwise the generator was the bottleneck."""
        return not self.generator.problems

    @property
    def slo_missed(self) -> list[str]:
        """The objectives that were missed, with what was reached; none for an invalid run."""
        values = self.figures.values() | (self.tokens.values() if self.tokens else {})
        return missed(self.objectives, values) if self.is_valid else []

    @property
    def has_passed(self) -> bool:
        """Whether the run is valid, something was answered, and all objectives were met."""
        return self.is_valid and not self.slo_missed and self.figures.requests > self.figures.errors

    @property
    def is_sustained(self) -> bool:
        """Whether the run passed and the server kept up with the load."""
        return self.has_passed and bool(self.steady)

    def document(self) -> dict[str, Any]:
        """As JSON; figures that an invalid run cannot vouch for are None."""
        figures = self.figures.document()
        if self.tokens:
            intervals = {name: asdict(estimate) for name, estimate in self.tokens.percentiles.items()}
            figures |= self.tokens.document() | {"intervals_ms": figures["intervals_ms"] | intervals}
        if not self.is_valid:
            figures |= dict.fromkeys(figures.keys() - _VALID_ALWAYS)
        document = {
            "model": self.model,
            "protocol": self.protocol,
            "url": self.url,
            "loop": "closed" if self.load.due is None else "open",
            "arrivals": self.load.arrivals,
            "rate": self.load.rate,
            "concurrency": self.load.callers or None,
            "duration_s": round(self.load.duration, 3),
            "seed": self.seed,
            "client_batch": self.client_batch,
            "payload": self.payload,
            "host": host(),
            "warm_up_s": round(self.warm_up_s, 3),
            "started": self.started,
            **figures,
            "valid": self.is_valid,
            "invalid_because": list(self.generator.problems),
            "slo": [objective.text for objective in self.objectives],
            "slo_missed": self.slo_missed,
            "passed": self.has_passed,
            "steady": self.steady,
            "generator": self.generator.document(),
            "server": self.server.document(),
            "stages_us": self.stages_us,
            "explanation": [asdict(finding) for finding in self.explanation],
        }
        return document | ({"scenario": asdict(self.scenario)} if self.scenario else {})
