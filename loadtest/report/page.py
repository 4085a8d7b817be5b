"""One page of charts, tables and notes, as self-contained HTML and as Markdown, and the machine that made it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from clients.output import write_atomically
from loadtest.analysis.machine import host
from loadtest.report.drawing import Chart
from loadtest.report.vega import compiled, library

Table = Sequence[Sequence[str]]  # a header and rows of cells; the first cell of a row is its name


@dataclass(frozen=True)
class Section:
    """A part of a page; every field may be left out."""

    title: str = ""
    chart: Chart | None = None
    table: Table = ()
    marked: frozenset[str] = frozenset()  # names of rows to emphasize
    notes: Sequence[str] = ()  # below the table
    facts: Mapping[str, str] = field(default_factory=dict)  # names with values, in small print
    is_half: bool = False  # whether it may stand beside another one


@dataclass(frozen=True)
class Page:
    """A report."""

    title: str
    asked: str  # what was measured, on what, how
    found: str  # what came out, in one line
    sections: Sequence[Section]
    verdict: str = ""  # passed, failed, invalid; empty for none
    notes: Sequence[str] = ()  # what a reader must know first
    versions: Mapping[str, str | None] = field(default_factory=dict)  # of what was measured, such as Triton

    def html(self, template: str = "page.html", **more: Any) -> str:
        """As one HTML file that needs no other; a template may extend ours and take more values."""
        from jinja2 import Environment, FileSystemLoader
        from markupsafe import Markup

        folder = Path(__file__).parent
        loader = FileSystemLoader(folder)
        environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
        # What is shown where a pointer rests keeps its order.
        environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
        made = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        about = {"title": self.title, "asked": self.asked, "found": self.found, "verdict": self.verdict, "made": made}
        return environment.get_template(template).render(
            page=self,
            about=about,
            foot=[made, *_machine(), *(f"{name} {number}" for name, number in self.versions.items() if number)],
            has_charts=any(section.chart for section in self.sections),
            compiled=compiled,
            library=lambda: Markup(library()),
            script=Markup((folder / "page.js").read_text("utf-8")),
            **more,
        )

    def markdown(self) -> str:
        """As Markdown, without the charts."""
        verdict = f" ({self.verdict})" if self.verdict else ""
        lines = [f"# {self.title}{verdict}", "", self.asked, "", self.found, "", *(f"- {note}" for note in self.notes)]
        for section in self.sections:
            table = section.table or [["what", "value"], *section.facts.items()] * bool(section.facts)
            if table or section.notes:
                lines += ["", f"## {section.title}"] if section.title else []
                lines += ["", *_markdown_table(table)] if table else []
                lines += ["", *(f"- {note}" for note in section.notes)] if section.notes else []
        return "\n".join([*lines, ""])


def half(title: str, chart: Chart) -> Section:
    """A chart that may stand beside another one."""
    return Section(title, chart, is_half=True)


def write(page: Page, path: Path) -> Path:
    """Write a page as HTML; returns its path, whose folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page.html())
    return path


def publish(page: Page, document: dict[str, Any], folder: Path, stem: str) -> Path:
    """Write STEM.json with a document, and STEM.md and STEM.html with a page; returns the path of the last."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{stem}.json", json.dumps(document, indent=2))
    write_atomically(folder / f"{stem}.md", page.markdown())
    return write(page, folder / f"{stem}.html")


def outcome_notes(slo: Sequence[str], missed: Sequence[str], passed: bool, errors: Mapping[str, int]) -> list[str]:
    """Which objectives were met or missed, and the errors by kind."""
    notes = [f"SLO missed: {text}" for text in missed]
    if slo and passed:
        notes.append(f"SLO met: {', '.join(slo)}")
    return notes + [f"{count:,} errors: {kind}" for kind, count in errors.items()]


def _machine() -> list[str]:
    here = host()
    return [
        f"{here['processor']}, {here['cpus']} cores, {here['memory_gb']:g} GB",
        here["system"],
        f"Python {here['python']}",
        f"tritonclient {version('tritonclient')}",
    ]


def _markdown_table(table: Table) -> Iterator[str]:
    header, *rows = ([cell.replace("|", r"\|") for cell in row] for row in table)
    yield f"| {' | '.join(header)} |"
    yield "|---" + "|---:" * (len(header) - 1) + "|"
    for row in rows:
        yield f"| {' | '.join(row)} |"
