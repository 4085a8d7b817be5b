"""What a tuning has measured so far, in a file: an interrupted run resumes, a finished one is reported from its file.

Only measurements are kept; beliefs are computed from them again.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median_high

from clients.output import write_atomically
from tools.tune.candidates import Candidate, Plan, candidate_from
from tools.tune.goal import Goal
from tools.tune.trials import Document, PeakSearch, search_from

_FORM = 2  # of the file; a record of another form is not resumed


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
        is_latency = goal.name == "latency"
        figures = [trial.latency_ms[goal.percentile] if is_latency else trial.cpu_us for trial in sustained]
        known = [figure for figure in figures if figure is not None]
        return median_high(known) if known else None

    def document(self) -> Document:
        """Return the contender as JSON."""
        return {"plan": list(map(asdict, self.plan))} | self.search.document()


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
        document = {
            "about": self.conditions,
            "seconds": round(self.seconds, 1),
            "measured": [contender.document() for contender in self.contenders],
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, json.dumps(document))


def resume(path: Path, conditions: Document, fresh: bool = False) -> Record:
    """Read the record of an earlier run under the same conditions, or begin a new one."""
    conditions = json.loads(json.dumps(conditions | {"form": _FORM}))  # As in the file: lists for tuples.
    document = json.loads(path.read_text()) if path.is_file() and not fresh else {}
    if document.get("about") != conditions:
        return Record(path, conditions)
    contenders = [
        Contender(tuple(map(candidate_from, known["plan"])), search_from(known)) for known in document["measured"]
    ]
    return Record(path, conditions, document["seconds"], contenders)
