"""`# triton-check: ignore=RULE[,RULE]` on the line of a finding, or on a line of its own above it."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tools.check.finding import Finding, Place, Rule

PATTERN = re.compile(r"#\s*triton-check:\s*ignore=([\w\s,-]*)")
UNKNOWN = Rule(
    "suppression-unknown",
    "A comment suppresses a rule that does not exist",
    example='name: "model"  # triton-check: ignore=name-folders\nbackend: "pytorch"',
)
RULES = (UNKNOWN,)


def suppressed(text: str) -> dict[int, tuple[int, tuple[str, ...]]]:
    """Lines, counted from 1, on which rules are suppressed: line → (line of the comment, rules)."""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if match := PATTERN.search(line):
            alone = not line[: match.start()].strip()
            found[number + alone] = (number, tuple(name.strip() for name in match[1].split(",") if name.strip()))
    return found


def kept(findings: Iterable[Finding], texts: Mapping[Path, str]) -> Iterator[Finding]:
    """The findings that no comment suppresses."""
    by_file = {file: suppressed(text) for file, text in texts.items() if "triton-check" in text}
    for finding in findings:
        _, ignored = by_file.get(finding.place.file, {}).get(finding.place.line, (0, ()))
        if finding.rule not in ignored:
            yield finding


def check(texts: Mapping[Path, str], rules: Mapping[str, Rule]) -> Iterator[Finding]:
    """Suppressions of rules that do not exist: they were misspelt, or a rule was renamed."""
    for file, text in texts.items():
        for line, ignored in suppressed(text).values():
            for name in ignored:
                if name not in rules:
                    yield UNKNOWN.at(
                        Place(file, line, 1),
                        found=f"ignore={name}",
                        expected="a rule of `python -m tools.check --rules`",
                        remedy="correct the name, or remove the comment",
                    )
