"""Lines in a rectangle, computed here and drawn by the page as SVG: nothing to load, nothing to run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.report.closed_loop import number

WIDTH, HEIGHT = 640.0, 200.0
NINES = (0.0, 50.0, 90.0, 99.0, 99.9)


@dataclass(frozen=True)
class Tick:
    """A place on an axis, in pixels, with its label."""

    at: float
    label: str


@dataclass(frozen=True)
class Line:
    """A named line: the value of SVG's `points`."""

    name: str
    points: str


@dataclass(frozen=True)
class Plot:
    """Everything that the page needs to draw one plot; x to the right, y upwards from 0."""

    title: str
    axis: str
    lines: tuple[Line, ...]
    xs: tuple[Tick, ...]
    ys: tuple[Tick, ...]
    width: float = WIDTH
    height: float = HEIGHT


Points = Sequence[tuple[float, float | None]]


def plot(title: str, axis: str, series: dict[str, Points], xs: Sequence[tuple[float, str]]) -> Plot:
    """Scale points into the rectangle; a point without a value interrupts nothing, it is passed over.

    Args:
        title: what is drawn, with the unit.
        axis: what the horizontal axis is, with the unit.
        series: points by the name of their line.
        xs: places of the horizontal axis with their labels; the last one is the right edge.
    """
    highest = max((y for points in series.values() for _, y in points if y is not None), default=0.0) * 1.05 or 1.0
    right = xs[-1][0] or 1.0
    lines = tuple(Line(name, " ".join(scaled(points, right, highest))) for name, points in series.items())
    ticks = tuple(Tick(HEIGHT - part * HEIGHT, number(part * highest)) for part in (0.0, 0.25, 0.5, 0.75, 1.0))
    return Plot(title, axis, lines, tuple(Tick(x / right * WIDTH, label) for x, label in xs), ticks)


def scaled(points: Points, right: float, highest: float) -> list[str]:
    """Points as SVG takes them."""
    return [f"{x / right * WIDTH:.1f},{HEIGHT - y / highest * HEIGHT:.1f}" for x, y in points if y is not None]


def over_time(title: str, series: dict[str, Points], seconds: float) -> Plot:
    """A plot over the seconds of a run."""
    return plot(
        title, "seconds", series, [(part * seconds, number(part * seconds)) for part in (0, 0.25, 0.5, 0.75, 1)]
    )


def by_percentile(title: str, points: Points) -> Plot:
    """A percentile curve whose axis gives each further nine as much room as the last: the tail is what counts."""
    return plot(title, "percentile", {"": [(nines(x), y) for x, y in points]}, [(nines(x), f"{x:g}") for x in NINES])


def nines(level: float) -> float:
    """How many nines a percentile has: 0 for 0, 1 for 90, 2 for 99."""
    return -math.log10(1 - level / 100)
