"""Objectives that a run must meet: 'p99<50ms,errors<0.1%,rps>100', of a language model also 'ttft_p95<500ms'."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clients.errors import ToolError

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
LATENCIES = {name: f"{name}_ms" for name in (*PERCENTILES, "max")}
_METRICS = {**LATENCIES, "rps": "rps", "errors": "error_share"}
# Of a language model: time to the first token, between tokens, and between the tokens of one answer on average.
_TOKEN_METRICS = {
    f"{kind}_{name}": f"{kind}_{figure}" for kind in ("ttft", "itl", "tpot") for name, figure in LATENCIES.items()
}
_TOKEN_METRICS["tps"] = "tokens_per_s"
_PATTERN = re.compile(r"\s*([\w.]+)\s*([<>])\s*(\d+(?:\.\d+)?)\s*(us|ms|s|%)?\s*")
# Factors by unit; None is no unit.
_MILLISECONDS: dict[str | None, float] = {"us": 0.001, "ms": 1.0, "s": 1000.0}
_UNITS: dict[str, dict[str | None, float]] = {"rps": {None: 1.0}, "tps": {None: 1.0}, "errors": {"%": 0.01}}

Values = Mapping[str, float | None]  # figures of a run by name


class SloError(ToolError):
    """An objective cannot be parsed; the message shows the form."""


@dataclass(frozen=True)
class Objective:
    """One limit: latencies in milliseconds, errors as a share of all requests, rps and tps per second."""

    text: str
    figure: str
    below: bool
    limit: float

    def is_met(self, values: Values) -> bool:
        """Whether a run meets the limit; a figure that was not measured does not."""
        value = values.get(self.figure)
        return value is not None and (value < self.limit if self.below else value > self.limit)


def parse(text: str, tokens: bool = False) -> list[Objective]:
    """Parse objectives separated by commas, with `tokens` also those of a language model.

    Raises SloError if one is not METRIC<LIMIT, or its unit does not fit.
    """
    objectives, metrics = [], _METRICS | (_TOKEN_METRICS if tokens else {})
    for part in filter(str.strip, text.split(",")):
        match = _PATTERN.fullmatch(part)
        if not match or match[1] not in metrics:
            example = "ttft_p95<500ms, itl_p99<60ms, tps>100" if tokens else "p99<50ms, errors<0.1%, rps>100"
            expected = f"{', '.join(metrics)} < or > a limit, for example {example}"
            raise SloError(f"cannot parse the objective '{part}'; expected {expected}")
        metric, sign, number, unit = match.groups()
        units = _UNITS.get(metric, _MILLISECONDS)
        if unit not in units:
            expected = " or ".join(known for known in units if known) or "no unit"
            raise SloError(f"objective '{part.strip()}': expected {expected}, got {unit or 'no unit'}")
        objectives.append(Objective(part.strip(), metrics[metric], sign == "<", float(number) * units[unit]))
    return objectives


def missed(objectives: Sequence[Objective], values: Values) -> list[str]:
    """The objectives that a run missed, each with the value that it reached."""
    formats = {"error_share": "{:.3%}", "rps": "{:,.1f}", "tokens_per_s": "{:,.1f}"}
    texts = []
    for limit in objectives:
        if not limit.is_met(values):
            value, form = values.get(limit.figure), formats.get(limit.figure, "{:.4g} ms")
            reached = "not measured: too few answers" if value is None else form.format(value)
            texts.append(f"{limit.text} (was {reached})")
    return texts


def goodput_limit_ms(objectives: Sequence[Objective]) -> float | None:
    """The latency up to which an answer is useful: the limit of the highest percentile that has one."""
    limit = goodput_limit(objectives, "")
    return limit[1] if limit else None


def goodput_limit(objectives: Sequence[Objective], prefix: str) -> tuple[float, float] | None:
    """Share and limit of the highest percentile of a latency ("ttft_", …; "" is a whole answer's) that has a limit."""
    limits = {objective.figure: objective.limit for objective in objectives if objective.below}
    named = ((PERCENTILES.get(name, 1.0), f"{prefix}{figure}") for name, figure in reversed(LATENCIES.items()))
    return next(((share, limits[figure]) for share, figure in named if figure in limits), None)
