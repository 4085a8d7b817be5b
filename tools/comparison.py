"""How a comparison looks: a table for the terminal, and one self-contained page with a plot."""

import io
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from tools.repository import write_atomically

if TYPE_CHECKING:
    from tools.compare import Member

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
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<style>
  body {{ font: 14px/1.5 system-ui, sans-serif; color: #1d232b; max-width: 1250px; margin: 2rem auto; }}
  table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
  th, td {{ padding: .35rem .7rem; text-align: right; border-bottom: 1px solid #e3e7ec; white-space: nowrap; }}
  th:first-child, td:first-child {{ text-align: left; }}
  .front td {{ font-weight: 600; }}
  svg {{ max-width: 100%; height: auto; }}
</style>
<h1>{title}</h1>
<p>{setting}</p>
{plot}
<table>{rows}</table>
<p>Bold: the Pareto front, models that no other one equals or beats in both accuracy and throughput. p: how likely so
large a difference from the root is by chance (McNemar's exact test on the same images). Memory: private bytes of one
loaded instance of the embedded server. Speed: through the server, medians of interleaved rounds.</p>
</html>
"""


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


def text(members: "list[Member]", best: list[str]) -> str:
    """The table for a terminal; the front is marked."""
    table = [list(COLUMNS), *(row(member, members[0]) for member in members)]
    widths = [max(len(line[column]) for line in table) for column in range(len(COLUMNS))]
    lines = [
        "  ".join(cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(line, widths, strict=True)) for line in table)
    ]
    return "\n".join([*lines, f"Pareto front of accuracy and throughput: {', '.join(best)}"])


def write(members: "list[Member]", best: list[str], setting: str, folder: Path) -> Path:
    """Write <root>.html into a folder, in one rename; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{members[0].name}.html"
    title = escape(f"{members[0].name} and its variants")
    heading = "<tr>" + "".join(f"<th>{escape(column)}</th>" for column in COLUMNS) + "</tr>"
    body = [html_row(member, members[0], member.name in best) for member in members]
    page = PAGE.format(title=title, setting=escape(setting), plot=plot(members, best), rows="\n".join([heading, *body]))
    write_atomically(path, page)
    return path


def html_row(member: "Member", root: "Member", on_front: bool) -> str:
    """One model's row of the page."""
    cells = "".join(f"<td>{escape(cell)}</td>" for cell in row(member, root))
    return f'<tr class="front">{cells}</tr>' if on_front else f"<tr>{cells}</tr>"


def plot(members: "list[Member]", best: list[str]) -> str:
    """Accuracy with its interval over throughput, the front joined; as SVG."""
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
    drawing = io.StringIO()
    figure.savefig(drawing, format="svg", metadata={"Date": None})
    return drawing.getvalue().split("?>", 1)[-1].split('dtd">', 1)[-1]
