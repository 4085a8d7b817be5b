"""`# triton-check: ignore=RULE[,RULE]` on the line of a finding, or on a line of its own above it."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tools.check.finding import Finding, Place, Rule

_PATTERN = re.compile(r"#\s*triton-check:\s*ignore=([\w\s,-]*)")
UNKNOWN = Rule("suppression-unknown", "A comment suppresses an unknown rule")
RULES = (UNKNOWN,)


def _suppressed_rules(text: str) -> dict[int, tuple[int, tuple[str, ...]]]:
    """Map each line that has suppressed rules, from 1, to the line of the comment and the rules."""
    suppressed = {}
    for number, line in enumerate(text.split("\n"), 1):
        if match := _PATTERN.search(line):
            is_alone = not line[: match.start()].strip()
            suppressed[number + is_alone] = (
                number,
                tuple(name.strip() for name in match[1].split(",") if name.strip()),
            )
    return suppressed


def unsuppressed(findings: Iterable[Finding], texts: Mapping[Path, str]) -> Iterator[Finding]:
    """Yield the findings that no comment suppresses."""
    by_file = {file: _suppressed_rules(text) for file, text in texts.items() if "triton-check" in text}
    for finding in findings:
        _, ignored = by_file.get(finding.place.file, {}).get(finding.place.line, (0, ()))
        if finding.rule not in ignored:
            yield finding


def check(texts: Mapping[Path, str], rules: Mapping[str, Rule]) -> Iterator[Finding]:
    """Yield a finding for each suppressed rule that does not exist."""
    for file, text in texts.items():
        for line, ignored in _suppressed_rules(text).values():
            for name in ignored:
                if name not in rules:
                    yield UNKNOWN.at(
                        Place(file, line, 1),
                        found=f"ignore={name}",
                        expected="a rule that `python -m tools.check --rules` lists",
                        remedy="correct the name, or remove the comment",
                    )
