"""Ask the real tritonserver and tools.check about thousands of mutated configs: `python -m tests.differential`.

tools.check claims to know without a server what Triton refuses. Here the claim is tried: every disagreement is shown,
made as small as it gets. What comes out: the share of equal verdicts, precision and recall of "refused" (the server is
the truth), and milliseconds per verdict of each. The last line of stdout is one compact JSON document.

    python -m tests.differential --mutants 5000 --seed 0

Exit code: 0 when all verdicts are the same, 1 when not.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.differential.judges import Verdicts, judge
from tests.differential.mutants import Mutant, mutants
from tests.differential.oracle import Oracle, oracle
from tests.differential.reduction import reduced
from tests.differential.seeds import of_this_repository, written_by_hand


@dataclass(frozen=True)
class Case:
    """A mutant with what both said."""

    mutant: Mutant
    verdicts: Verdicts

    @property
    def kind(self) -> str:
        """What cases of the same cause have in common: the server's words without names and numbers, and the rules."""
        said = re.sub(r"'[^']*'|\"[^\"]*\"|\d+", "…", self.verdicts.server or "accepted")
        return (
            f"{said.strip()} | {', '.join(sorted({finding.rule for finding in self.verdicts.findings})) or 'accepted'}"
        )


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--mutants", type=int, default=5000, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations (default: %(default)s)")
    parser.add_argument("--show", type=int, default=20, help="disagreements to show at most (default: %(default)s)")
    return parser


def collect(judges: Oracle, count: int, number: int) -> list[Case]:
    """Both verdicts about as many mutants."""
    cases: list[Case] = []

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(mutants(written_by_hand() + of_this_repository()))
    def ask(mutant: Mutant) -> None:
        cases.append(Case(mutant, judge(judges, mutant)))

    ask()
    return cases


def figures(cases: Sequence[Case]) -> dict[str, Any]:
    """What the last line holds."""
    both = [(case.verdicts.server is not None, bool(case.verdicts.findings)) for case in cases]
    refused, flagged = sum(server for server, _ in both), sum(checker for _, checker in both)
    agreed = sum(server and checker for server, checker in both)
    return {
        "mutants": len(cases),
        "refused": round(refused / len(cases), 4),
        "agreement": round(fmean(server == checker for server, checker in both), 5),
        "precision": round(agreed / flagged, 5) if flagged else None,
        "recall": round(agreed / refused, 5) if refused else None,
        "different": sum(server != checker for server, checker in both),
        "rules_seen": len({finding.rule for case in cases for finding in case.verdicts.findings}),
        "checker_ms": round(fmean(case.verdicts.checker_ms for case in cases), 2),
        "server_ms": round(fmean(case.verdicts.server_ms for case in cases), 2),
    }


def show(judges: Oracle, cases: Sequence[Case], limit: int) -> None:
    """Print one small example of each kind of disagreement."""
    kinds: dict[str, list[Case]] = {}
    for case in cases:
        if not case.verdicts.same:
            kinds.setdefault(case.kind, []).append(case)
    for kind, alike in list(kinds.items())[:limit]:

        def disagree(mutant: Mutant, kind: str = kind) -> bool:
            case = Case(mutant, judge(judges, mutant))
            return not case.verdicts.same and case.kind == kind

        print(f"\n== {len(alike)}x: server | checker: {kind}")
        smallest = min(alike, key=lambda case: len(str(case.mutant)))
        print(reduced(smallest.mutant, disagree))


def main() -> int:
    """Entry point."""
    arguments = parser().parse_args()
    with oracle() as judges:
        cases = collect(judges, arguments.mutants, arguments.seed)
        result = {**figures(cases), "server_deaths": len(judges.deaths)}
        show(judges, cases, arguments.show)
    for name, value in result.items():
        print(f"{name:14} {value}")
    print(json.dumps(result, separators=(",", ":")))
    return int(result["different"] > 0)


if __name__ == "__main__":
    sys.exit(main())
