"""The verdicts of the real server and of tools.check on a mutant. They must be equal; no exception is known."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from tests.differential.mutants import Mutant
from tests.differential.oracle import BACKENDS, Oracle
from tools.check import served
from tools.check.finding import Finding
from tools.check.rules import RULES, Scope, check_served


@dataclass(frozen=True)
class Verdicts:
    """Both verdicts on a mutant, with the milliseconds that they took.

    Attributes:
        server: why the server refuses it, or None.
        findings: the checker's findings that Triton's core refuses the model.
    """

    server: str | None
    findings: tuple[Finding, ...]
    server_ms: float
    checker_ms: float

    @property
    def same(self) -> bool:
        """Whether both refuse it or both accept it."""
        return (self.server is None) == (not self.findings)


_SCOPE = Scope(hardware="cpu", installed=frozenset(BACKENDS), core_only=True)


def judge(oracle: Oracle, mutant: Mutant) -> Verdicts:
    """Get both verdicts."""
    _write(oracle.repository, mutant)
    began = time.perf_counter()
    findings = errors(oracle.repository, mutant.target)
    checked = time.perf_counter()
    server = oracle.verdict(mutant.target)
    ended = time.perf_counter()
    return Verdicts(server, findings, 1000 * (ended - checked), 1000 * (checked - began))


def _write(repository: Path, mutant: Mutant) -> None:
    """Replace the previous mutant."""
    for folder in repository.iterdir():
        if folder.name != "keeper":
            shutil.rmtree(folder)
    mutant.write(repository)


def errors(repository: Path, target: str) -> tuple[Finding, ...]:
    """The checker's findings that Triton's core refuses a model."""
    findings = check_served(served.load(repository, auto_complete=False), _SCOPE)
    core = {name for name, rule in RULES.items() if rule.refused_by == "core"}
    return tuple(finding for finding in findings if finding.model == target and finding.rule in core)
