"""What a tuning has measured so far, in a file: an interrupted run resumes, a finished one is reported from its file.

Only measurements are kept; beliefs are computed from them again.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median_high

from clients.output import write_atomically
from tools.tune.candidates import Candidate, Plan, candidate_from
from tools.tune.goal import Goal
from tools.tune.trials import Document, PeakSearch, search_from


@dataclass
class Contender:
    """A choice of settings that was measured, and the search for its peak."""

    plan: Plan
    search: PeakSearch

    @property
    def candidate(self) -> Candidate:
        """The settings of the only model."""
        (candidate,) = self.plan
        return candidate

    def label(self, models: Sequence[str]) -> str:
        """Describe the plan in a few words."""
        if len(self.plan) == 1:
            return self.candidate.label()
        return " | ".join(f"{model}: {own.label()}" for model, own in zip(models, self.plan, strict=True))

    def figure(self, goal: Goal) -> float | None:
        """What was achieved: the peak, or the median over trials; None where the objectives were not met.

        Latency and cost count when more than half of the trials at the goal's rate met the objectives.
        """
        valid = [trial for trial in self.search.trials if trial.valid]
        sustained = [trial for trial in valid if trial.is_sustained]
        if goal.rate is None:
            return self.search.peak() if sustained else None
        if 2 * len(sustained) <= len(valid):
            return None
        if goal.name == "latency":
            figures = [figure for trial in sustained if (figure := trial.latency_ms[goal.percentile]) is not None]
        else:
            used = [trial.server for trial in sustained]
            figures = [1e6 * server.cpu_s / max(1, server.requests) for server in used if server.cpu_s is not None]
        return median_high(figures) if figures else None

    def document(self) -> Document:
        """Return the contender as JSON."""
        plan = [candidate.document() for candidate in self.plan]
        choice = {"candidate": plan[0]} if len(plan) == 1 else {"plan": plan}
        return choice | self.search.document()


@dataclass
class Record:
    """All measurements of a tuning."""

    path: Path
    conditions: Document  # under which they were made; a file with other conditions is not resumed
    seconds: float = 0.0  # spent so far
    contenders: list[Contender] = field(default_factory=list)  # in the order in which they were first measured

    def find(self, plan: Plan) -> Contender | None:
        """The contender with these settings."""
        return next((contender for contender in self.contenders if contender.plan == plan), None)

    def save(self) -> None:
        """Write the file."""
        measured = "tried" if "shares" in self.conditions else "measured"
        document = {
            "about": self.conditions,
            "seconds": round(self.seconds, 1),
            measured: [contender.document() for contender in self.contenders],
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, json.dumps(document))


def resume(path: Path, conditions: Document, fresh: bool = False) -> Record:
    """Read the record of an earlier run under the same conditions, or begin a new one."""
    conditions = json.loads(json.dumps(conditions))  # As in the file: lists for tuples.
    if path.is_file() and not fresh and json.loads(path.read_text()).get("about") == conditions:
        return read_record(path)
    return Record(path, conditions)


def read_record(path: Path) -> Record:
    """Read a record, whatever its conditions."""
    document = json.loads(path.read_text())
    contenders = []
    for known in document["tried" if "tried" in document else "measured"]:
        plan = known["plan"] if "plan" in known else [known["candidate"]]
        contenders.append(Contender(tuple(map(candidate_from, plan)), search_from(known)))
    return Record(path, document["about"], document["seconds"], contenders)
