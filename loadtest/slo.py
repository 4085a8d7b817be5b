"""Objectives that a run must meet: 'p99<50ms,errors<0.1%,rps>100'."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from clients.errors import ToolError

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
LATENCIES = {name: f"{name}_ms" for name in (*PERCENTILES, "max")}
METRICS = {**LATENCIES, "rps": "rps", "errors": "error_share"}
PATTERN = re.compile(r"\s*([\w.]+)\s*([<>])\s*(\d+(?:\.\d+)?)\s*(us|ms|s|%)?\s*")
# What a unit multiplies a limit by; None is no unit.
MILLISECONDS: dict[str | None, float] = {"us": 0.001, "ms": 1.0, "s": 1000.0}
UNITS: dict[str, dict[str | None, float]] = {"rps": {None: 1.0}, "errors": {"%": 0.01}}


class SloError(ToolError):
    """An objective cannot be read; the message shows the form."""


@dataclass(frozen=True)
class Objective:
    """One limit: latencies in milliseconds, errors as a share of all requests, rps in requests per second."""

    text: str
    figure: str
    below: bool
    limit: float

    def met(self, figures: Mapping[str, float | None]) -> bool:
        """Whether a run's figure keeps to the limit; a figure that does not exist does not."""
        value = figures.get(self.figure)
        return value is not None and (value < self.limit if self.below else value > self.limit)


def parse(text: str) -> list[Objective]:
    """Read objectives separated by commas.

    Raises:
        SloError: one has not the form METRIC<LIMIT, or its unit does not fit.
    """
    return [objective(part) for part in text.split(",") if part.strip()]


def objective(text: str) -> Objective:
    """Read one objective."""
    match = PATTERN.fullmatch(text)
    if not match or match[1] not in METRICS:
        raise SloError(
            f"cannot read the objective '{text}'; expected {', '.join(METRICS)} < or > a limit, "
            "for example p99<50ms, errors<0.1%, rps>100"
        )
    metric, sign, number, unit = match.groups()
    return Objective(text.strip(), METRICS[metric], sign == "<", float(number) * factor(metric, unit, text))


def factor(metric: str, unit: str | None, text: str) -> float:
    """What a unit multiplies a limit by."""
    units = UNITS.get(metric, MILLISECONDS)
    if unit not in units:
        expected = " or ".join(str(one) for one in units if one) or "no unit"
        raise SloError(f"objective '{text.strip()}': expected {expected}, got {unit or 'no unit'}")
    return units[unit]


def missed(objectives: list[Objective], figures: Mapping[str, float | None]) -> list[str]:
    """The objectives that a run did not meet, with what it reached."""
    return [f"{one.text} (was {shown(one, figures.get(one.figure))})" for one in objectives if not one.met(figures)]


def shown(objective: Objective, value: float | None) -> str:
    """A figure in the unit that people expect of it."""
    if value is None:
        return "not measured: too little was answered"
    if objective.figure == "error_share":
        return f"{value:.3%}"
    return f"{value:,.1f}" if objective.figure == "rps" else f"{value:.4g} ms"


def patience_ms(objectives: list[Objective]) -> float | None:
    """How long an answer may take to be of use: the limit for the highest percentile that has one, in milliseconds."""
    limits = {one.figure: one.limit for one in objectives if one.below}
    named = [limits[figure] for figure in LATENCIES.values() if figure in limits]
    return named[-1] if named else None
