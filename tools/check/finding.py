"""A rule, a finding, and the place of one. Nothing here knows what is checked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Severity = Literal["error", "warning", "info"]
# Who refuses to load a model that breaks the rule: Triton's core, the backend that the config names, a server on which
# something is not installed, or nobody.
Refuser = Literal["core", "backend", "server", "nobody"]


@dataclass(frozen=True, order=True)
class Place:
    """A place in a file; line and column count from 1. Line 0 is the file, or the folder, as a whole."""

    file: Path
    line: int = 0
    column: int = 0


@dataclass(frozen=True)
class Fix:
    """A mechanical remedy: what stands at a place, and what is to stand there instead."""

    place: Place
    old: str
    new: str


@dataclass(frozen=True)
class Finding:
    """Something that is wrong at a place: what was expected there, what was found, and what to do about it.

    Attributes:
        fix: the remedy, if it is mechanical; `--fix` applies it.
    """

    rule: str
    severity: Severity
    place: Place
    expected: str
    found: str
    remedy: str
    model: str = ""
    fix: Fix | None = None

    @property
    def message(self) -> str:
        """The finding in one sentence."""
        return f"{self.found}; expected {self.expected}; {self.remedy}"


@dataclass(frozen=True)
class Rule:
    """A thing that can be wrong.

    Attributes:
        id: kebab-case; never changes once published, because people name it in suppressions.
        summary: what is wrong, in one line.
        refused_by: who refuses to load such a model; what core or backend refuse is an error.
        example: a config.pbtxt of a model `model` that breaks it, empty where files decide and not the config.
        severity: how much a finding counts; by default an error if refused by core or backend, else a warning.
    """

    id: str
    summary: str
    refused_by: Refuser = "nobody"
    example: str = ""
    level: Severity | None = None

    @property
    def severity(self) -> Severity:
        """How much a finding of this rule counts."""
        return self.level or ("error" if self.refused_by in ("core", "backend") else "warning")

    def at(self, place: Place, *, found: str, expected: str, remedy: str, fix: Fix | None = None) -> Finding:
        """A finding of this rule."""
        return Finding(self.id, self.severity, place, expected, found, remedy, fix=fix)
