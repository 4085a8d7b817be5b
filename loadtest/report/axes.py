"""Numbers as reports write them, and axes: round ticks, a unit, and a logarithm where the values want one."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Span = tuple[float | None, float | None]  # an interval; None is an end that the run was too short to determine

_WIDE = 8  # times the lowest value: a logarithm shows both ends
_TICKS = 5  # of a linear axis, about
_MOST = 12  # ticks of a logarithmic axis; where there would be more, only powers of ten


def number(value: float | None) -> str:
    """A figure with about three significant digits; "-" where there is none."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" if value < 100 else f"{value:.1f}"


def interval(low: float | None, high: float | None) -> str:
    """An interval; a question mark is an end that the run was too short to determine."""
    return " to ".join("?" if end is None else number(end) for end in (low, high))


@dataclass(frozen=True)
class Axis:
    """What is drawn along an axis.

    Attributes:
        log: whether it is logarithmic where the values span much; else it is linear.
        zero: whether a linear one begins at 0.
        spec: how numbers are written, if not as `number` does.
    """

    title: str
    unit: str = ""
    log: bool = False
    zero: bool = True
    spec: str = ""

    def text(self, value: float | None) -> str:
        """A value with its unit; "-" where there is none."""
        return number(None) if value is None else f"{self._written(value)} {self.unit}".rstrip()

    def span(self, span: Span) -> str:
        """An interval with its unit."""
        ends = ("?" if end is None else self._written(end) for end in span)
        return f"{' to '.join(ends)} {self.unit}".rstrip()

    def _written(self, value: float) -> str:
        return format(value, self.spec) if self.spec else number(value)

    def encoding(self, field: str, values: Iterable[float | None]) -> dict[str, Any]:
        """The channel of a field in Vega-Lite; `values` are all that will be drawn."""
        known = [value for value in values if value is not None]
        title = ", ".join(filter(None, (self.title, self.unit)))
        channel = {"field": field, "type": "quantitative", "title": title}
        if self.log and known and 0 < min(known) * _WIDE < max(known):
            ticks = _round_steps(min(known), max(known))
            scale = {"type": "log", "domain": [ticks[0], ticks[-1]], "nice": False}
            written = ",.3~r" if ticks[0] > 1e-4 else ".0e"
            return channel | {"scale": scale, "axis": {"values": ticks, "format": written, "grid": True}}
        written = ".3~%" if self.spec.endswith("%") else ",.6~r"
        axis = {"tickCount": _TICKS, "format": written, "grid": True}
        # It ends at a tick, where the number keeps within the picture.
        return channel | {"scale": {"zero": self.zero, "nice": _TICKS}, "axis": axis}


def _round_steps(low: float, high: float) -> list[float]:
    """1, 2, 5, 10 … from the last one below `low` to the first one above `high`."""
    # One more at either side: a logarithm may be rounded up past a whole number.
    exponents = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    for digits in ((1, 2, 5), (1,)):
        steps = [float(f"{digit}e{exponent}") for exponent in exponents for digit in digits]
        first = max(place for place, step in enumerate(steps) if step <= low)
        last = min(place for place, step in enumerate(steps) if step >= high)
        if last - first < _MOST:
            break
    return steps[first : last + 1]
