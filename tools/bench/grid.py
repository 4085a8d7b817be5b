"""An exhaustive search by which the tuner is judged: every choice of its grid is measured at length, in turn.

The order is shuffled, so that a slowdown of the machine does not affect one corner of the grid. Each choice is written
to a file as soon as it is measured; an interrupted grid resumes where it stopped.
"""

import json
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from clients.command import say
from clients.output import write_atomically
from tools.tune.candidates import Candidate, candidate_from
from tools.tune.serving import ServedModel
from tools.tune.trials import Document, search_around

_CALLERS, _CLOSED_S = 64, 1.0
_PRECISION = 0.08
# The peak is about this share of a closed loop's throughput, within a factor.
_SHARE, _FACTOR = 0.8, 1.25


@dataclass(frozen=True)
class GridPoint:
    """A measured choice, and its highest sustained rate in requests per second."""

    candidate: Candidate
    peak_rps: float


@dataclass(frozen=True)
class Grid:
    """All measured choices, and the seconds that they took."""

    points: tuple[GridPoint, ...]
    seconds: float


def measure_grid(
    model: ServedModel, candidates: Sequence[Candidate], budget_s: float, path: Path, conditions: Document
) -> Grid:
    """Measure every choice that the file lacks.

    Args:
        model: to be measured.
        candidates: all choices of the grid.
        budget_s: seconds for the trials of each.
        path: of the file.
        conditions: what a new file says of machine, objectives and versions.
    """
    document = json.loads(path.read_text()) if path.is_file() else {**conditions, "seconds": 0.0, "measured": []}
    known = {candidate_from(point["candidate"]) for point in document["measured"]}
    missing = [candidate for candidate in candidates if candidate not in known]
    random.Random(0).shuffle(missing)
    for candidate in missing:
        began = time.monotonic()
        point = measure_point(model, candidate, budget_s)
        seconds = time.monotonic() - began
        document["measured"].append({"candidate": asdict(candidate), **point, "seconds": round(seconds, 1)})
        document["seconds"] = round(document["seconds"] + seconds, 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(document))
        say(f"{len(document['measured'])}/{len(candidates)} {candidate.label()}: {point['peak_rps']:,.0f}/s")
    return Grid(tuple(_point_from(point) for point in document["measured"]), document["seconds"])


def _point_from(document: Document) -> GridPoint:
    return GridPoint(candidate_from(document["candidate"]), document["peak_rps"])


def measure_point(model: ServedModel, candidate: Candidate, budget_s: float) -> Document:
    """Measure one choice: its throughput in a closed loop and its peak; returns JSON."""
    model.load(candidate)
    model.warm_up()
    closed = model.closed_rate(_CALLERS, _CLOSED_S)
    search = search_around(_SHARE * closed, _FACTOR)
    began = time.monotonic()
    while not search.state.is_narrow(_PRECISION) and time.monotonic() - began < budget_s:
        search.step(model.open_trial)
    found = search.document()
    return {"closed_rps": closed} | {name: found[name] for name in ("peak_rps", "low_rps", "high_rps")}
