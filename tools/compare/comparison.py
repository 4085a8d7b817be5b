"""A comparison as a table for the terminal, and as one self-contained page with a plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clients.command import text_table
from loadtest.report import page
from tools.compare.measurement import Member

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NOTES = (
    "Bold: the Pareto front, models that no other one equals or beats in both accuracy and throughput. vs root: "
    "percentage points; p: how likely so large a difference is by chance (McNemar's exact test on the same images). "
    "Memory: what loading the model adds to the embedded server. Speed: through the server, medians of "
    "interleaved rounds."
)


def front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The Pareto front: names of the points that no other one equals or beats in both values, best first value first.

    Of equal points the first one stays.
    """
    highest, names = float("-inf"), []
    for name in sorted(points, key=lambda name: points[name], reverse=True):
        if points[name][1] > highest:
            names.append(name)
            highest = points[name][1]
    return names


def text(members: Sequence[Member], best: Sequence[str]) -> str:
    """The table for a terminal, with the front named."""
    return f"{text_table(_table(members))}\nPareto front of accuracy and throughput: {', '.join(best)}"


def write(members: Sequence[Member], best: Sequence[str], setting: str, folder: Path) -> Path:
    """Write <root>.html into a folder; returns its path."""
    root = members[0].name
    title, figure = f"{root} and its variants", _plot(members, best)
    return page.write(folder / f"{root}.html", title, setting, figure, _table(members), _NOTES, frozenset(best))


def _table(members: Sequence[Member]) -> list[list[str]]:
    root = members[0]
    rows = [
        {
            "model": member.name,
            "accuracy": f"{member.accuracy:.2%}",
            "95 % interval": f"{member.low:.1%} to {member.high:.1%}",
            "vs root": "" if member is root else f"{100 * member.difference:+.2f}",
            "p": "" if member is root else f"{member.p_value:.2g}",
            "file KB": f"{member.file_bytes / 1000:,.0f}",
            "parameters": f"{member.parameters:,}",
            "memory MB": f"{member.memory_bytes / 1e6:,.1f}",
            "p50 ms": f"{member.latency_ms:.2f}",
            "infer/s": f"{member.rate:,.0f}",
            "÷ root": f"{member.rate / root.rate:.2f}",
        }
        for member in members
    ]
    return [[*rows[0]], *([*row.values()] for row in rows)]


def _plot(members: Sequence[Member], best: Sequence[str]) -> "Figure":
    """Accuracy with its interval over throughput, the front joined."""
    # Not pyplot, which keeps every figure and looks for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots()
    for member in members:
        point = (member.rate, member.accuracy)
        errors = [[member.accuracy - member.low], [member.high - member.accuracy]]
        colour = "#1f5fbf" if member.name in best else "#8a94a3"
        axes.errorbar(*point, yerr=errors, fmt="o", color=colour, capsize=3)
        axes.annotate(member.name, point, xytext=(6, 5), textcoords="offset points", fontsize=8)
    joined = sorted((member.rate, member.accuracy) for member in members if member.name in best)
    axes.plot(*zip(*joined, strict=True), color="#1f5fbf", linewidth=1)
    axes.set(xlabel="inferences per second through the server", ylabel="test accuracy, 95 % interval")
    axes.margins(x=0.15)
    axes.grid(alpha=0.3)
    return figure
