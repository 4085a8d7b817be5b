"""What a tuning has found so far, in a file: an interrupted one goes on, and a finished one is told again.

Everything measured is kept; what is believed is worked out of it anew.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients.output import write_atomically
from tools.tune.candidates import Candidate, candidate_from
from tools.tune.goal import Goal
from tools.tune.trials import Document, Quest, held, quest_from


@dataclass
class Measured:
    """A choice that was measured.

    Attributes:
        predicted: the twin's figure for it; None where it had none.
        quest: its trials, and what is believed of its peak.
    """

    candidate: Candidate
    predicted: float | None
    quest: Quest


@dataclass
class Record:
    """A tuning.

    Attributes:
        path: of the file.
        about: with what it was made; a file with another `about` is not taken up.
        seconds: spent so far.
        calibrations: of deployments.
        measured: the choices, in the order in which they were taken up.
    """

    path: Path
    about: Document
    seconds: float
    calibrations: list[Document]
    measured: list[Measured]

    def open_runs(self, choice: Candidate) -> list[Document]:
        """The open loops with which a choice was calibrated: they are trials of it as well."""
        of_choice = [each["runs"] for each in self.calibrations if candidate_from(each["choice"]) == choice]
        return [run for runs in of_choice for run in runs if not run["concurrency"]]

    def save(self) -> None:
        """Write the file in one rename."""
        document = {
            "about": self.about,
            "seconds": round(self.seconds, 1),
            "calibrations": self.calibrations,
            "measured": [as_document(one) for one in self.measured],
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, json.dumps(document))


def as_document(one: Measured) -> Document:
    """As JSON."""
    return {
        "candidate": one.candidate.document(),
        "predicted": one.predicted,
        "start": one.quest.start,
        **one.quest.document(),
    }


def measured_from(document: Document) -> Measured:
    """A choice with its trials, as the file has them."""
    return Measured(candidate_from(document["candidate"]), document["predicted"], quest_from(document))


def taken_up(path: Path, about: Document, fresh: bool) -> Record:
    """The tuning in a file, if it was made with the same things; else a new one."""
    about = json.loads(json.dumps(about))  # As the file has it: lists for tuples.
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() and not fresh else {}
    if found.get("about") != about:
        return Record(path, about, 0.0, [], [])
    return Record(path, about, found["seconds"], found["calibrations"], [measured_from(o) for o in found["measured"]])


def figure(one: Measured, goal: Goal) -> float | None:
    """What a choice has achieved: its peak, or the median of its trials; None where no trial kept to the objective.

    A latency or cost counts when more than half of the trials at the goal's rate kept to the objective.
    """
    valid = [trial for trial in one.quest.trials if trial["valid"]]
    good = [trial for trial in valid if held(trial)]
    if goal.rate is None:
        return one.quest.peak() if good else None
    if 2 * len(good) <= len(valid):
        return None
    values = sorted(value for trial in good if (value := measure(trial, goal)) is not None)
    return values[len(values) // 2] if values else None


def measure(trial: Document, goal: Goal) -> float | None:
    """A trial's latency in milliseconds, or its processor microseconds per request; None where that is not known."""
    if goal.name == "latency":
        return float(trial[f"{goal.percentile}_ms"])
    server = trial["server"]
    return None if server["cpu_s"] is None else float(1e6 * server["cpu_s"] / max(1, server["requests"]))
