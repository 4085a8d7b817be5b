"""`--fix`: apply mechanical fixes to the files and change nothing else in them."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from clients.output import staged
from tools.check.finding import Finding, Fix


def apply(findings: Iterable[Finding]) -> list[Fix]:
    """Apply the fixes of findings, file by file, and return those that were applied.

    Raises:
        OSError: a file cannot be written; fixes of earlier files stay.
    """
    by_file: dict[Path, set[Fix]] = defaultdict(set)
    for finding in findings:
        if finding.fix:
            by_file[finding.fix.place.file].add(finding.fix)
    applied = []
    for file, fixes in by_file.items():
        lines = file.read_bytes().decode(errors="surrogateescape").split("\n")
        # From the end of the file to its beginning, so that no fix moves the place of another.
        for fix in sorted(fixes, key=lambda fix: fix.place, reverse=True):
            if _matches(fix, lines):
                _replace(lines, fix)
                applied.append(fix)
        with staged(file) as place:
            place.write_bytes("\n".join(lines).encode(errors="surrogateescape"))
    return sorted(applied, key=lambda fix: fix.place)


def _matches(fix: Fix, lines: list[str]) -> bool:
    return lines[fix.place.line - 1].startswith(fix.old, fix.place.column - 1)


def _replace(lines: list[str], fix: Fix) -> None:
    line, start = lines[fix.place.line - 1], fix.place.column - 1
    lines[fix.place.line - 1] = line[:start] + fix.new + line[start + len(fix.old) :]
