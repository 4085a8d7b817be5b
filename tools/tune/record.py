"""What a tuning has measured so far, in a file: an interrupted run resumes, a finished one is reported from its file.

Only measurements are kept; beliefs are computed from them again.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clients.output import write_atomically
from tools.tune.candidates import Candidate, Plan, candidate_from
from tools.tune.goal import Goal
from tools.tune.peak import PeakSearch, search_from
from tools.tune.trials import Document, Trial, trial_from


@dataclass(frozen=True)
class Calibration:
    """The runs from which the twin of a deployment is fitted: closed loops and open loops."""

    candidate: Candidate
    runs: tuple[Trial, ...]


@dataclass
class Contender:
    """A choice of settings that was measured, the search for its peak, and the twin's figure where it has one."""

    plan: Plan
    search: PeakSearch
    predicted: float | None = None

    @property
    def candidate(self) -> Candidate:
        """The settings of the only model."""
        (candidate,) = self.plan
        return candidate

    def label(self, models: Sequence[str]) -> str:
        """Describe the plan in a few words."""
        labels = [candidate.label() for candidate in self.plan]
        if len(labels) == 1:
            return labels[0]
        return " | ".join(f"{model}: {label}" for model, label in zip(models, labels, strict=True))

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
        values = sorted(value for trial in sustained if (value := _figure(trial, goal)) is not None)
        return values[len(values) // 2] if values else None


def _figure(trial: Trial, goal: Goal) -> float | None:
    if goal.name == "latency":
        return trial.latency_ms[goal.percentile]
    cpu_s, requests = trial.server.cpu_s, trial.server.requests
    return None if cpu_s is None else 1e6 * cpu_s / max(1, requests)


@dataclass
class Record:
    """All measurements of a tuning.

    Attributes:
        conditions: under which they were made, as JSON; a file with other conditions is not resumed.
        seconds: spent so far.
        calibrations: of deployments; none where several models are tuned together.
        contenders: in the order in which they were first measured.
    """

    path: Path
    conditions: Document
    seconds: float = 0.0
    calibrations: list[Calibration] = field(default_factory=list)
    contenders: list[Contender] = field(default_factory=list)

    def open_runs(self, candidate: Candidate) -> list[Trial]:
        """The open loops with which a candidate was calibrated; they count as its trials too."""
        runs = [run for known in self.calibrations if known.candidate == candidate for run in known.runs]
        return [run for run in runs if not run.concurrency]

    def find(self, plan: Plan) -> Contender | None:
        """The contender with these settings."""
        return next((contender for contender in self.contenders if contender.plan == plan), None)

    def save(self) -> None:
        """Write the file."""
        contenders = [_document(contender) for contender in self.contenders]
        calibrations = [
            {"choice": known.candidate.document(), "runs": [run.document() for run in known.runs]}
            for known in self.calibrations
        ]
        measured = {"tried": contenders} if "shares" in self.conditions else {"measured": contenders}
        about = {"about": self.conditions, "seconds": round(self.seconds, 1)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, json.dumps({**about, "calibrations": calibrations, **measured}))


def _document(contender: Contender) -> Document:
    plan = [candidate.document() for candidate in contender.plan]
    chosen = {"candidate": plan[0]} if len(plan) == 1 else {"plan": plan}
    return {**chosen, "predicted": contender.predicted, **contender.search.document()}


def resume(path: Path, conditions: Document, fresh: bool = False) -> Record:
    """Read the record of an earlier run under the same conditions, or begin a new one."""
    conditions = json.loads(json.dumps(conditions))  # As in the file: lists for tuples.
    document: Document = json.loads(path.read_text()) if path.is_file() and not fresh else {}
    return _record_from(path, document) if document.get("about") == conditions else Record(path, conditions)


def read_record(path: Path) -> Record:
    """Read a record, whatever its conditions."""
    return _record_from(path, json.loads(path.read_text()))


def _record_from(path: Path, document: Document) -> Record:
    calibrations = [
        Calibration(candidate_from(known["choice"]), tuple(map(trial_from, known["runs"])))
        for known in document.get("calibrations", [])
    ]
    contenders = [_contender_from(known) for known in document["tried" if "tried" in document else "measured"]]
    return Record(path, document["about"], document["seconds"], calibrations, contenders)


def _contender_from(document: Document) -> Contender:
    plan = document["plan"] if "plan" in document else [document["candidate"]]
    return Contender(
        tuple(candidate_from(candidate) for candidate in plan), search_from(document), document.get("predicted")
    )
