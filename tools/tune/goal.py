"""What a tuner is to achieve: an objective of latency that must be kept, and what is best among the choices that do."""

from dataclasses import dataclass

from loadtest import slo
from tools.tune.candidates import TuningError

OBJECTIVES = ("throughput", "latency", "cost")
# The figure, whether less of it is better, and how people read it.
FIGURES = {
    "throughput": ("requests per second within the objective", False),
    "latency": ("ms", True),
    "cost": ("processor µs per request", True),
}


@dataclass(frozen=True)
class Goal:
    """An objective and what counts.

    Attributes:
        objectives: all that a trial must meet.
        name: of OBJECTIVES.
        percentile: "p99", say: the latency objective's.
        limit_ms: and its limit.
        rate: requests per second at which latency and cost are compared; None for throughput.
    """

    objectives: tuple[slo.Objective, ...]
    name: str
    percentile: str
    limit_ms: float
    rate: float | None

    @property
    def share(self) -> float:
        """The percentile as a share, 0.99 for p99."""
        return slo.PERCENTILES[self.percentile]

    @property
    def less(self) -> bool:
        """Whether less is better."""
        return FIGURES[self.name][1]

    def gain(self, one: float, other: float) -> float:
        """How many times as good a figure is as another; above 1 is better."""
        return other / one if self.less else one / other

    def shown(self, figure: float) -> str:
        """A figure with its unit."""
        return f"{figure:,.0f}/s" if self.name == "throughput" else f"{figure:.3g} {FIGURES[self.name][0]}"


def goal(text: str, name: str, rate: float | None) -> Goal:
    """Read what is wanted.

    Raises:
        SloError: an objective cannot be read.
        TuningError: none of them limits a percentile of latency, or a rate is missing.
    """
    objectives = slo.parse(text)
    limits = {one.figure.removesuffix("_ms"): one.limit for one in objectives if one.below}
    named = [percentile for percentile in slo.PERCENTILES if percentile in limits]
    if not named:
        raise TuningError(f"--slo {text!r}: expected a percentile with a limit among the objectives, as in p99<20ms")
    if name != "throughput" and rate is None:
        raise TuningError(f"--objective {name} compares choices at one rate; say which with --rate N")
    if rate is not None and not 0 < rate < float("inf"):
        raise TuningError(f"expected --rate of more than 0, got {rate}")
    return Goal(tuple(objectives), name, named[-1], limits[named[-1]], rate if name != "throughput" else None)
