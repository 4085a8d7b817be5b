"""What the real server and tools.check say about a mutant, and where they differ on purpose."""

import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from tests.differential.mutants import Mutant
from tests.differential.oracle import PYTHON_MODEL, Oracle
from tools.checks import served
from tools.checks.finding import Finding
from tools.checks.rules import RULES, check_served


@dataclass(frozen=True)
class Verdicts:
    """Both verdicts about one mutant, with the milliseconds that they took.

    Attributes:
        server: why the server refuses it, or None.
        findings: what the checker has against it: errors of Triton's core in the model that is loaded.
    """

    server: str | None
    findings: tuple[Finding, ...]
    server_ms: float
    checker_ms: float

    @property
    def same(self) -> bool:
        """Whether both refuse it, or both accept it."""
        return (self.server is None) == (not self.findings)


def judge(oracle: Oracle, mutant: Mutant) -> Verdicts:
    """Ask both."""
    write(oracle.repository, mutant)
    if not oracle.compiled:
        for file in oracle.repository.glob("*/*/model.any"):
            file.with_name("model.py").write_text(PYTHON_MODEL)
    began = time.perf_counter()
    findings = errors(oracle.repository, mutant.target)
    checked = time.perf_counter()
    server = oracle.verdict(mutant.target)
    ended = time.perf_counter()
    return Verdicts(server, findings, 1000 * (ended - checked), 1000 * (checked - began))


def write(repository: Path, mutant: Mutant) -> None:
    """Put a mutant in place of the one before."""
    for folder in repository.iterdir():
        if folder.name != "keeper":
            shutil.rmtree(folder)
    mutant.write(repository)


def errors(repository: Path, target: str) -> tuple[Finding, ...]:
    """For what the checker says that Triton's core refuses a model."""
    findings = check_served(served.load(repository), "cpu", backends=False)
    return tuple(
        finding for finding in findings if finding.model == target and RULES[finding.rule].refused_by == "core"
    )


# Why the two differ where they should: each with what the server says then.
EXPLAINED = {
    "the backend is not installed on this server; tools.check cannot know, and warns (backend-unfamiliar)": re.compile(
        "unable to find backend library"
    ),
}


def explanation(verdicts: Verdicts) -> str | None:
    """Why a disagreement is as it should be; None when nothing explains it."""
    said = verdicts.server or ""
    return next((reason for reason, pattern in EXPLAINED.items() if pattern.search(said)), None)
