"""Plots of load tests."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Line = Sequence[float | None]  # None leaves a gap
_COLORS = ("#1f5fbf", "#b4690e", "#9aa3ad")
_STAGE_COLORS = ("#b4690e", "#5b8def", "#1f5fbf", "#8fb3f5", "#c9ced6", "#7a3e9d")
_MUTED, _GRID = "#5a6572", "#e3e7ec"


def _axes(height: float) -> "tuple[Figure, Axes]":
    # Not pyplot, which keeps every figure and looks for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_MUTED)
    axes.tick_params(colors=_MUTED, labelsize=9, length=0)
    axes.xaxis.label.set_color(_MUTED)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _add_legend(figure: "Figure") -> None:
    figure.legend(loc="outside upper left", frameon=False, ncols=6, labelcolor=_MUTED, fontsize=9)


def over_time(seconds: Sequence[float], lines: Mapping[str, Line]) -> "Figure":
    """Named lines over the seconds of a run."""
    figure, axes = _axes(2.8)
    for (name, values), color in zip(lines.items(), _COLORS, strict=False):
        points = [math.nan if value is None else value for value in values]
        axes.plot(seconds, points, color=color, label=name, linewidth=1.8)
    axes.set(xlabel="seconds", ylim=(0, None))
    axes.margins(x=0.01)
    if len(lines) > 1:
        _add_legend(figure)
    return figure


def by_percentile(curve: Sequence[tuple[float, float]]) -> "Figure":
    """Milliseconds by percentile, on an axis that gives each further nine the same room: the tail is what counts."""

    def nines(level: float) -> float:
        return -math.log10(1 - level / 100)  # 0 for 0, 1 for 90, 2 for 99

    figure, axes = _axes(2.8)
    axes.plot([nines(level) for level, _ in curve], [ms for _, ms in curve], color=_COLORS[0], linewidth=1.8)
    levels = (0, 50, 90, 99, 99.9)
    axes.set_xticks([nines(level) for level in levels], [f"{level:g}" for level in levels])
    axes.set(xlabel="percentile", ylim=(0, None))
    axes.margins(x=0.01)
    return figure


def stage_bars(stages: Mapping[str, Mapping[str, float]]) -> "Figure":
    """One bar per name, of the microseconds that each stage of a request takes."""
    figure, axes = _axes(0.9 + 0.4 * len(stages))
    names = list(stages)
    left = [0.0] * len(names)
    for stage, color in zip(next(iter(stages.values())), _STAGE_COLORS, strict=False):
        widths = [stages[name][stage] for name in names]
        axes.barh(names, widths, left=left, height=0.6, color=color, label=stage.replace("_", " "))
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color=_GRID, linewidth=0.8)
    axes.set_xlabel("µs per request")
    _add_legend(figure)
    return figure
