"""Findings as text for people, JSON for scripts, and SARIF 2.1.0 for code review (GitHub, GitLab, editors).

SARIF: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.check.finding import Finding, Rule, Severity

_Document = dict[str, Any]
_SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS: Mapping[Severity, str] = {"error": "error", "warning": "warning", "info": "note"}


def shown(path: Path, base: Path) -> str:
    """A path relative to a folder if it lies in it, else absolute."""
    return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)


def as_text(findings: Iterable[Finding], base: Path) -> list[str]:
    """Three lines per finding; the first begins with file:line:column, which editors and terminals turn into a link."""
    lines = []
    for finding in findings:
        place = finding.place
        at = ":".join([shown(place.file, base), *map(str, (place.line, place.column) if place.line else ())])
        lines += [f"{at}: {finding.severity}: {finding.found} [{finding.rule}]"]
        lines += [f"    expected {finding.expected}", f"    {finding.remedy}"]
    return lines


def summary(findings: Sequence[Finding], models: int, seconds: float) -> _Document:
    """Count the findings of each severity."""
    counts = Counter(finding.severity for finding in findings)
    return {"models": models, **{severity: counts[severity] for severity in _SEVERITIES}, "seconds": round(seconds, 3)}


def as_json(findings: Iterable[Finding], base: Path) -> list[_Document]:
    """Findings as JSON objects."""
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


def as_sarif(findings: Iterable[Finding], rules: Mapping[str, Rule], base: Path) -> _Document:
    """A SARIF log of one run, with all rules and the findings as results."""
    index = {name: number for number, name in enumerate(rules)}
    driver = {
        "name": "triton-check",
        "informationUri": "https://docs.nvidia.com/deeplearning/triton-inference-server/",
        "rules": [_sarif_rule(rule) for rule in rules.values()],
    }
    results = [_sarif_result(finding, index[finding.rule], base) for finding in findings]
    run = {"tool": {"driver": driver}, "columnKind": "utf16CodeUnits", "results": results}
    return {"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}


def _sarif_rule(rule: Rule) -> _Document:
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.summary},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
    }


def _sarif_result(finding: Finding, rule: int, base: Path) -> _Document:
    place = finding.place
    location: _Document = {"artifactLocation": {"uri": Path(shown(place.file, base)).as_posix()}}
    if place.line:
        location["region"] = {"startLine": place.line, "startColumn": place.column}
    return {
        "ruleId": finding.rule,
        "ruleIndex": rule,
        "level": _LEVELS[finding.severity],
        "message": {"text": finding.message},
        "locations": [{"physicalLocation": location}],
    }
