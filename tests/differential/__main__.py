"""Compare tools.check with the real tritonserver on thousands of mutated configs: `python -m tests.differential`.

tools.check claims to know without a server what Triton refuses. This command tests the claim, and prints every
disagreement, reduced to a minimal example. It reports the share of equal verdicts, precision and recall of "refused"
(the server is the ground truth), and milliseconds per verdict. The last line of stdout is one compact JSON document.

    python -m tests.differential --mutants 5000 --seed 0

Exit code: 0 if all verdicts are equal, 1 if not, 2 if the comparison could not be run.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from clients.command import command, command_parser, positive, print_json, text_table
from tests.differential.judges import Verdicts, judge
from tests.differential.mutants import Mutant, mutants
from tests.differential.oracle import Oracle, oracle
from tests.differential.reduction import reduce
from tests.differential.seeds import of_this_repository, written_by_hand


@dataclass(frozen=True)
class Case:
    """A mutant and its verdicts."""

    mutant: Mutant
    verdicts: Verdicts

    @property
    def kind(self) -> str:
        """The server's message without names and numbers, and the rules: the same for cases with the same cause."""
        message = re.sub(r"'[^']*'|\"[^\"]*\"|\d+", "…", self.verdicts.server or "accepted").strip()
        return f"{message} | {', '.join(sorted({finding.rule for finding in self.verdicts.findings})) or 'accepted'}"


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("tests.differential", __doc__)
    parser.add_argument("--mutants", type=positive, default=5000, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations (default: %(default)s)")
    parser.add_argument("--show", type=int, default=20, help="maximum of disagreements shown (default: %(default)s)")
    return parser


def _collect(server: Oracle, count: int, number: int) -> list[Case]:
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
        cases.append(Case(mutant, judge(server, mutant)))

    ask()
    return cases


def _figures(cases: Sequence[Case]) -> dict[str, Any]:
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


def _show(server: Oracle, cases: Sequence[Case], limit: int) -> None:
    """Print a minimal example of each kind of disagreement."""
    kinds: dict[str, list[Case]] = {}
    for case in cases:
        if not case.verdicts.same:
            kinds.setdefault(case.kind, []).append(case)
    for kind, similar in list(kinds.items())[:limit]:

        def disagree(mutant: Mutant, kind: str = kind) -> bool:
            case = Case(mutant, judge(server, mutant))
            return not case.verdicts.same and case.kind == kind

        print(f"\n== {len(similar)}x: server | checker: {kind}")
        smallest = min(similar, key=lambda case: len(str(case.mutant)))
        print(reduce(smallest.mutant, disagree))


@command()
def main() -> int:
    """Compare verdicts and print their figures."""
    arguments = _parser().parse_args()
    with oracle() as server:
        cases = _collect(server, arguments.mutants, arguments.seed)
        result = {**_figures(cases), "server_deaths": len(server.deaths)}
        _show(server, cases, arguments.show)
    print(text_table([["figure", "value"], *([name, str(value)] for name, value in result.items())]))
    print_json(result)
    return int(result["different"] > 0)


if __name__ == "__main__":
    sys.exit(main())
