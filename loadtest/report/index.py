"""All pages in a folder: what each says in its head, and an index page."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from clients.output import write_atomically
from loadtest.report.page import Page

_READ = 8192  # characters at once
_IN_HEAD = {"html", "head", "meta", "title", "link", "base", "style", "script"}
_INDEX = "index.html"


@dataclass(frozen=True)
class Entry:
    """A page, as it describes itself."""

    path: str  # from the folder of the index
    title: str
    asked: str
    found: str
    verdict: str
    made: str  # UTC


class _Reader(HTMLParser):
    """Finds what a page of ours says about itself."""

    about: str | None = None
    is_past_head = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag == "meta" and named.get("name") == "report":
            self.about = named.get("content")
        self.is_past_head |= tag not in _IN_HEAD


def entries(folder: Path) -> list[Entry]:
    """The pages in a folder and those below it, the newest first."""
    found = [entry for path in folder.rglob("*.html") if path.name != _INDEX and (entry := _entry(path, folder))]
    return sorted(found, key=lambda entry: entry.made, reverse=True)


def _entry(path: Path, folder: Path) -> Entry | None:
    reader = _Reader()
    with path.open(encoding="utf-8", errors="replace") as file:
        while reader.about is None and not reader.is_past_head and (text := file.read(_READ)):
            reader.feed(text)
    try:
        about: Mapping[str, object] = json.loads(reader.about or "")
        return Entry(str(path.relative_to(folder)), **{name: str(value) for name, value in about.items()})
    except (ValueError, TypeError, AttributeError):
        return None  # Another release's, or somebody else's.


def write_index(folder: Path, listed: list[Entry]) -> Path:
    """Write the index page; returns its path."""
    newest = f"The newest is of {listed[0].made}: {listed[0].title}." if listed else "There is none yet."
    page = Page("Reports", f"{len(listed)} pages in {folder}", newest, [])
    path = folder / _INDEX
    write_atomically(path, page.html("index.html", entries=listed))
    return path
