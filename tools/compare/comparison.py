"""How a comparison looks: a table for the terminal, and one self-contained page with a plot."""

from pathlib import Path
from typing import TYPE_CHECKING

from clients.command import text_table
from loadtest.report import page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tools.compare.__main__ import Member

COLUMNS = (
    "model",
    "accuracy",
    "95 % interval",
    "vs root",
    "p",
    "file KB",
    "parameters",
    "memory MB",
    "p50 ms",
    "infer/s",
    "÷ root",
)
NOTES = (
    "Bold: the Pareto front, models that no other one equals or beats in both accuracy and throughput. vs root: "
    "percentage points; p: how likely so large a difference is by chance (McNemar's exact test on the same images). "
    "Memory: private bytes of one loaded instance of the embedded server. Speed: through the server, medians of "
    "interleaved rounds."
)


def row(member: "Member", root: "Member") -> list[str]:
    """One model's figures as people read them; the columns are COLUMNS."""
    itself = member is root
    return [
        member.name,
        f"{member.accuracy:.2%}",
        f"{member.low:.1%} to {member.high:.1%}",
        "" if itself else f"{100 * member.difference:+.2f}",
        "" if itself else f"{member.p_value:.2g}",
        f"{member.file_bytes / 1000:,.0f}",
        f"{member.parameters:,}",
        "-" if member.memory_bytes is None else f"{member.memory_bytes / 1e6:,.0f}",
        f"{member.latency_ms:.2f}",
        f"{member.rate:,.0f}",
        f"{member.rate / root.rate:.2f}",
    ]


def table(members: "list[Member]") -> list[list[str]]:
    """A header and a row for each model."""
    return [list(COLUMNS), *(row(member, members[0]) for member in members)]


def text(members: "list[Member]", best: list[str]) -> str:
    """The table for a terminal, with the front named."""
    return f"{text_table(table(members))}\nPareto front of accuracy and throughput: {', '.join(best)}"


def write(members: "list[Member]", best: list[str], setting: str, folder: Path) -> Path:
    """Write <root>.html into a folder; returns its path."""
    root = members[0].name
    title = f"{root} and its variants"
    figure = plot(members, best)
    return page.write(folder / f"{root}.html", title, setting, figure, table(members), NOTES, frozenset(best))


def plot(members: "list[Member]", best: list[str]) -> "Figure":
    """Accuracy with its interval over throughput, the front joined."""
    # Not pyplot, which keeps every figure and looks for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots()
    for member in members:
        below, above = member.accuracy - member.low, member.high - member.accuracy
        colour = "#1f5fbf" if member.name in best else "#8a94a3"
        axes.errorbar(member.rate, member.accuracy, yerr=[[below], [above]], fmt="o", color=colour, capsize=3)
        axes.annotate(
            member.name, (member.rate, member.accuracy), xytext=(6, 5), textcoords="offset points", fontsize=8
        )
    chosen = sorted((member.rate, member.accuracy) for member in members if member.name in best)
    axes.plot([rate for rate, _ in chosen], [accuracy for _, accuracy in chosen], color="#1f5fbf", linewidth=1)
    axes.set(xlabel="inferences per second through the server", ylabel="test accuracy, 95 % interval")
    axes.margins(x=0.15)
    axes.grid(alpha=0.3)
    return figure
