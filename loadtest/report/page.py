"""One page of plots, tables and notes, as self-contained HTML and as Markdown, and the text of what stands in it."""

import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients.output import write_atomically

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure

Table = Sequence[Sequence[str]]  # a header and rows of cells; the first cell of a row is its name


@dataclass(frozen=True)
class Section:
    """A part of a page; every field may be left out."""

    title: str = ""
    plot: "Figure | None" = None
    table: Table = ()
    marked: frozenset[str] = frozenset()  # names of rows to emphasize
    notes: Sequence[str] = ()  # below the table


@dataclass(frozen=True)
class Page:
    """A report."""

    title: str
    setting: str  # what was measured, on what, how
    sections: Sequence[Section]
    verdict: str = ""  # passed, failed, invalid; empty for none
    notes: Sequence[str] = ()  # what a reader must know first

    def html(self) -> str:
        """As one HTML file that needs no other."""
        from jinja2 import Environment, FileSystemLoader

        loader = FileSystemLoader(Path(__file__).parent)
        environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
        return environment.get_template("page.html").render(page=self, svg=_svg)

    def markdown(self) -> str:
        """As Markdown, without the plots."""
        verdict = f" ({self.verdict})" if self.verdict else ""
        lines = [f"# {self.title}{verdict}", "", self.setting, "", *(f"- {note}" for note in self.notes)]
        for section in self.sections:
            if section.table or section.notes:
                lines += ["", f"## {section.title}"] if section.title else []
                lines += ["", *_markdown_table(section.table)] if section.table else []
                lines += ["", *(f"- {note}" for note in section.notes)] if section.notes else []
        return "\n".join([*lines, ""])


def write(
    path: Path, title: str, setting: str, plot: "Figure", table: Table, notes: str, marked: frozenset[str] = frozenset()
) -> Path:
    """Write a page of one plot and one table; returns its path, whose folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, Page(title, setting, [Section("", plot, table, marked, (notes,))]).html())
    return path


def publish(page: Page, document: dict[str, Any], folder: Path, stem: str) -> Path:
    """Write STEM.json with a document, and STEM.md and STEM.html with a page; returns the path of the last."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {"json": json.dumps(document, indent=2), "md": page.markdown(), "html": page.html()}
    for suffix, content in contents.items():
        write_atomically(folder / f"{stem}.{suffix}", content)
    return folder / f"{stem}.html"


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


def outcome_notes(slo: Sequence[str], missed: Sequence[str], passed: bool, errors: Mapping[str, int]) -> list[str]:
    """Which objectives were met or missed, and the errors by kind."""
    notes = [f"SLO missed: {text}" for text in missed]
    if slo and passed:
        notes.append(f"SLO met: {', '.join(slo)}")
    return notes + [f"{count:,} errors: {kind}" for kind, count in errors.items()]


def _markdown_table(table: Table) -> Iterator[str]:
    header, *rows = ([cell.replace("|", r"\|") for cell in row] for row in table)
    yield f"| {' | '.join(header)} |"
    yield "|---" + "|---:" * (len(header) - 1) + "|"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _svg(figure: "Figure") -> "Markup":
    """Draw an SVG element for HTML: text stays text, and only ids that it refers to remain, for they must be unique."""
    import matplotlib
    from markupsafe import Markup

    drawing = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(drawing, format="svg", metadata={"Date": None})
    text = drawing.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    return Markup(re.sub(r'font-family: [^;"]*', "font-family: system-ui, sans-serif", text))
