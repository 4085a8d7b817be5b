"""What the real server and tools.check say about a mutant. They are to say the same: no exception is known."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from tests.differential.mutants import Mutant
from tests.differential.oracle import BACKENDS, PYTHON_MODEL, Oracle
from tools.check import served
from tools.check.finding import Finding
from tools.check.rules import RULES, Scope, check_served


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


SCOPE = Scope(hardware="cpu", installed=frozenset(BACKENDS), core_only=True)


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
    return tuple(each for each in check_served(served.load(repository), SCOPE) if each.model == target and blocks(each))


def blocks(finding: Finding) -> bool:
    """Whether a finding says that Triton's core refuses the model."""
    return RULES[finding.rule].refused_by == "core"
