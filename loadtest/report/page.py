"""One self-contained HTML page: a heading, a plot, a table, notes; for reports that tools write."""

import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from clients.output import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<style>
  body {{ font: 14px/1.5 system-ui, sans-serif; color: #1d232b; max-width: 1250px; margin: 2rem auto; padding: 1rem; }}
  table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
  th, td {{ padding: .35rem .7rem; text-align: right; border-bottom: 1px solid #e3e7ec; white-space: nowrap; }}
  th:first-child, td:first-child {{ text-align: left; }}
  .marked td {{ font-weight: 600; }}
  svg {{ max-width: 100%; height: auto; }}
</style>
<h1>{title}</h1>
<p>{setting}</p>
{plot}
<table>
{rows}
</table>
<p>{notes}</p>
</html>
"""


def write(
    path: Path,
    title: str,
    setting: str,
    plot: "Figure",
    table: Sequence[Sequence[str]],
    notes: str,
    marked: frozenset[str] = frozenset(),
) -> Path:
    """Write a page in one rename; returns its path.

    Args:
        path: where; its folder is made.
        title: the heading.
        setting: what was measured, on what, how.
        plot: drawn as SVG within the page.
        table: a header and rows of cells; the first cell of a row is its name.
        notes: what a reader must know about the columns.
        marked: names of rows to set in bold.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    header, *body = table
    rows = [line("th", header), *(line("td", row, "marked" if row[0] in marked else "") for row in body)]
    texts = {"title": escape(title), "setting": escape(setting), "notes": escape(notes)}
    write_atomically(path, TEMPLATE.format(plot=svg(plot), rows="\n".join(rows), **texts))
    return path


def line(tag: str, cells: Sequence[str], kind: str = "") -> str:
    """One row of a table."""
    inner = "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells)
    return f'<tr class="{kind}">{inner}</tr>' if kind else f"<tr>{inner}</tr>"


def svg(figure: "Figure") -> str:
    """A figure as an SVG element, without the XML declaration that has no place within HTML."""
    drawing = io.StringIO()
    figure.savefig(drawing, format="svg", metadata={"Date": None})
    text = drawing.getvalue()
    return text[text.index("<svg") :]
