"""Findings as text for people, JSON for scripts, and SARIF 2.1.0 for code review (GitHub, GitLab, editors).

SARIF: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.check.finding import Finding, Rule, Severity

Document = dict[str, Any]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS: Mapping[Severity, str] = {"error": "error", "warning": "warning", "info": "note"}


def shown(path: Path, base: Path) -> str:
    """A path as short as it is clear: relative to a folder that it is in."""
    return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)


def as_text(findings: Iterable[Finding], base: Path) -> list[str]:
    """A few lines for each finding; the first is the one that editors and terminals make a link of."""
    lines = []
    for finding in findings:
        place = finding.place
        at = ":".join([shown(place.file, base), *map(str, (place.line, place.column) if place.line else ())])
        lines += [f"{at}: {finding.severity}: {finding.found} [{finding.rule}]"]
        lines += [f"    expected {finding.expected}", f"    {finding.remedy}"]
    return lines


def summary(findings: Sequence[Finding], models: int, seconds: float) -> Document:
    """How many findings of each severity in how many models."""
    counts = Counter(finding.severity for finding in findings)
    return {"models": models, **{severity: counts[severity] for severity in SEVERITIES}, "seconds": round(seconds, 3)}


def as_json(findings: Iterable[Finding], base: Path) -> list[Document]:
    """Each finding with all its fields."""
    return [
        {
            "rule": finding.rule,
            "severity": finding.severity,
            "model": finding.model,
            "file": shown(finding.place.file, base),
            "line": finding.place.line,
            "column": finding.place.column,
            "found": finding.found,
            "expected": finding.expected,
            "remedy": finding.remedy,
        }
        for finding in findings
    ]


def as_sarif(findings: Iterable[Finding], rules: Mapping[str, Rule], base: Path) -> Document:
    """One run of one tool, with its rules and results."""
    index = {name: number for number, name in enumerate(rules)}
    driver = {
        "name": "tools.check",
        "informationUri": "https://docs.nvidia.com/deeplearning/triton-inference-server/",
        "rules": [sarif_rule(rule) for rule in rules.values()],
    }
    results = [sarif_result(finding, index[finding.rule], base) for finding in findings]
    run = {"tool": {"driver": driver}, "columnKind": "utf16CodeUnits", "results": results}
    return {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}


def sarif_rule(rule: Rule) -> Document:
    """A rule as SARIF describes it."""
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.summary},
        "defaultConfiguration": {"level": LEVELS[rule.severity]},
    }


def sarif_result(finding: Finding, rule: int, base: Path) -> Document:
    """A finding as SARIF describes it; one about a whole file has no region."""
    place = finding.place
    location: Document = {"artifactLocation": {"uri": Path(shown(place.file, base)).as_posix()}}
    if place.line:
        location["region"] = {"startLine": place.line, "startColumn": place.column}
    return {
        "ruleId": finding.rule,
        "ruleIndex": rule,
        "level": LEVELS[finding.severity],
        "message": {"text": finding.message},
        "locations": [{"physicalLocation": location}],
    }
