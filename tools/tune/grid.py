"""The slow way to the best config, kept to judge the quick one by: every choice of a coarse grid is measured in turn.

Its order is shuffled, so that a machine that slows down does not slow one corner of the grid. Each choice is written
down as soon as it is measured; a grid that was interrupted goes on where it stopped.
"""

import json
import random
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

from clients.output import write_atomically
from tools.tune.candidates import Candidate, Deployment, candidate_from
from tools.tune.served import Served
from tools.tune.trials import Yardstick, around, close, open_trial, pursue

Document = dict[str, Any]
CALLERS = 64
CLOSED_S = 2.0
DELAYS_US = (0, 500, 2000, 5000)
PRECISION = 0.08
# What a closed loop's throughput says of the peak: four fifths of it, within a factor.
SHARE, FACTOR = 0.8, 1.25
EASY = 0.6  # of the peak


def grid(base: Candidate, among: list[Deployment], delays: tuple[int, ...] = DELAYS_US) -> list[Candidate]:
    """A sixteenth, a quarter and all of the batch size with every deployment and delay, and the present choice."""
    most = base.max_batch_size
    sizes = {max(1, most // 16), max(1, most // 4), most}
    return sorted({base} | {Candidate(*each) for each in product(among, sizes, delays)})


def measure_grid(
    served: Served, how: Yardstick, choices: list[Candidate], budget_s: float, path: Path, about: Document,
    report: Callable[[str], None],
) -> Document:  # fmt: skip
    """Measure every choice that the file at `path` does not hold yet.

    Args:
        served: the model.
        how: yardstick.
        choices: all of the grid.
        budget_s: for the trials of each.
        path: of the data; written after each choice.
        about: what is written beside the figures: machine, objective, versions.
        report: told of each choice.
    """
    document = json.loads(path.read_text()) if path.is_file() else {**about, "seconds": 0.0, "measured": []}
    known = {candidate_from(one["candidate"]) for one in document["measured"]}
    todo = [one for one in choices if one not in known]
    random.Random(0).shuffle(todo)
    for choice in todo:
        began = time.monotonic()
        figures = measure_one(served, how, choice, budget_s)
        seconds = time.monotonic() - began
        document["measured"].append({"candidate": choice.document(), **figures, "seconds": round(seconds, 1)})
        document["seconds"] = round(document["seconds"] + seconds, 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(document))
        report(f"{len(document['measured'])}/{len(choices)} {choice.label()}: {figures['peak_rps']:,.0f}/s")
    return document


def measure_one(served: Served, how: Yardstick, choice: Candidate, budget_s: float) -> Document:
    """One choice: its throughput in a closed loop, its peak, and a trial of a load that it carries with ease."""
    served.take_on(choice)
    loop = close(served, how, CALLERS, CLOSED_S)
    quest = around(SHARE * loop["server_rps"], FACTOR)
    pursue(quest, lambda rate, number: open_trial(served, how, rate, number), PRECISION, budget_s)
    easy = open_trial(served, how, EASY * quest.peak(), len(quest.trials))
    return {"closed": loop, **quest.document(), "easy": easy}
