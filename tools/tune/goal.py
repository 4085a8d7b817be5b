"""The goal of a tuning: objectives that must be met, and what is best among the choices that meet them."""

from dataclasses import dataclass

from loadtest import slo
from tools.tune.candidates import TuningError

OBJECTIVES = ("throughput", "latency", "cost")
_UNITS = {"throughput": "/s", "latency": "ms", "cost": "processor µs per request"}


@dataclass(frozen=True)
class Goal:
    """What to optimize under which objectives."""

    objectives: list[slo.Objective]  # that every trial must meet
    name: str  # of what to optimize, one of OBJECTIVES
    percentile: str  # of the strictest latency objective, "p99" say
    limit_ms: float  # its limit
    rate: float | None  # requests per second at which latency and cost are compared; None for throughput

    def gain(self, figure: float, other: float) -> float:
        """How many times as good a figure is as another; above 1 is better."""
        return figure / other if self.name == "throughput" else other / figure

    def format(self, figure: float) -> str:
        """Format a figure with its unit."""
        return f"{figure:,.0f}/s" if self.name == "throughput" else f"{figure:.3g} {_UNITS[self.name]}"


def parse_goal(text: str, name: str = "throughput", rate: float | None = None) -> Goal:
    """Parse service level objectives, one of OBJECTIVES, and the rate that latency and cost require.

    Raises:
        SloError: an objective cannot be parsed.
        TuningError: none of them limits a latency percentile, or the rate is missing.
    """
    objectives = slo.parse(text)
    limits = {objective.figure.removesuffix("_ms"): objective.limit for objective in objectives if objective.below}
    named = [percentile for percentile in slo.PERCENTILES if percentile in limits]
    if not named:
        raise TuningError(f"--slo {text!r}: expected a percentile with a limit, as in p99<20ms")
    if name == "throughput":
        if rate is not None:
            raise TuningError("--rate is for --objective latency or cost; throughput is searched for")
    elif rate is None:
        raise TuningError(f"--objective {name} compares choices at one rate; set --rate N")
    elif not 0 < rate < float("inf"):
        raise TuningError(f"expected --rate of more than 0, got {rate}")
    return Goal(objectives, name, named[-1], limits[named[-1]], rate)
