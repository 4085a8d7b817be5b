"""`--fix`: what is mechanical is done in the files, and nothing else in them changes."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from clients.output import write_atomically
from tools.check.finding import Finding, Fix


def apply(findings: Iterable[Finding]) -> list[Fix]:
    """Apply the fixes of findings, each file in one go; returns those that were applied.

    Raises:
        OSError: a file cannot be written; those before it are.
    """
    by_file: dict[Path, set[Fix]] = defaultdict(set)
    for finding in findings:
        if finding.fix:
            by_file[finding.fix.place.file].add(finding.fix)
    applied = []
    for file, fixes in by_file.items():
        with file.open(newline="") as stream:
            lines = stream.read().split("\n")
        # From the end of the file to its beginning, so that no place moves before its fix.
        for fix in sorted(fixes, key=lambda each: each.place, reverse=True):
            if fits(fix, lines):
                replace_in(lines, fix)
                applied.append(fix)
        write_atomically(file, "\n".join(lines))
    return sorted(applied, key=lambda fix: fix.place)


def fits(fix: Fix, lines: list[str]) -> bool:
    """Whether what the fix replaces stands where it is said to stand."""
    return lines[fix.place.line - 1].startswith(fix.old, fix.place.column - 1)


def replace_in(lines: list[str], fix: Fix) -> None:
    """Put the new text in place of the old one."""
    line, start = lines[fix.place.line - 1], fix.place.column - 1
    lines[fix.place.line - 1] = line[:start] + fix.new + line[start + len(fix.old) :]
