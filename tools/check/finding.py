"""A rule, a finding, and its place in a file. Nothing here knows what is checked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

EXAMPLES = Path(__file__).with_name("examples")
Severity = Literal["error", "warning", "info"]
# Who refuses to load a model that breaks the rule: Triton's core, the backend that the config names, a server that
# lacks something, or nobody.
Refuser = Literal["core", "backend", "server", "nobody"]


@dataclass(frozen=True, order=True)
class Place:
    """A place in a file; lines and columns count from 1. Line 0 means the whole file or folder."""

    file: Path
    line: int = 0
    column: int = 0


@dataclass(frozen=True)
class Fix:
    """A mechanical fix: the text at a place and its replacement."""

    place: Place
    old: str
    new: str


@dataclass(frozen=True)
class Finding:
    """A problem at a place: what was expected there, what was found, and what to do about it.

    Attributes:
        fix: applied by `--fix`; None if the remedy is not mechanical.
        since: the release of Triton that is the first to be different; empty where all are the same.
    """

    rule: str
    severity: Severity
    place: Place
    expected: str
    found: str
    remedy: str
    model: str = ""
    fix: Fix | None = None
    since: str = ""

    @property
    def message(self) -> str:
        """The finding in one sentence."""
        return f"{self.found}; expected {self.expected}; {self.remedy}"


@dataclass(frozen=True)
class Rule:
    """Something that can be wrong with a repository.

    Attributes:
        id: kebab-case; never changes once published, because people name it in suppressions.
        summary: the problem in one line.
        refused_by: who refuses to load such a model. A refusal by the core or a backend is an error.
        level: the severity, if it does not follow from `refused_by`.
        until: the release in which it is mended; empty for none.
    """

    id: str
    summary: str
    refused_by: Refuser = "nobody"
    level: Severity | None = None
    until: str = ""

    @property
    def severity(self) -> Severity:
        """The severity of a finding: `level`, else an error if core or backend refuse the model, else a warning."""
        return self.level or ("error" if self.refused_by in ("core", "backend") else "warning")

    @property
    def example(self) -> str:
        """A config.pbtxt of a model called `model` that breaks the rule; empty if files break it, not the config."""
        file = EXAMPLES / f"{self.id}.pbtxt"
        return file.read_text() if file.is_file() else ""

    def at(self, place: Place, *, found: str, expected: str, remedy: str, fix: Fix | None = None) -> Finding:
        """Make a finding of this rule."""
        # What is found may contain bytes of a file that are not UTF-8, and no terminal would print them.
        printable = found.encode(errors="replace").decode()
        return Finding(self.id, self.severity, place, expected, printable, remedy, fix=fix)
