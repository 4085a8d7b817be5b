"""Several models that share the processors: one choice for each, found by going through the models in turn.

A plan is a choice for every model. All models get their shares of one total rate at the same time, and a plan's peak is
the highest total at which each of them keeps to the objective. Coordinate search: one model's choice is changed while
the others' stay, whatever is better is kept, until a whole turn has improved nothing or the time is spent.
"""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from clients.client import Client
from clients.output import write_atomically
from loadtest.analysis.peak_search import trial_seconds
from loadtest.load import open_loop
from tools.tune.candidates import Candidate, candidate_from
from tools.tune.race import FACTOR
from tools.tune.served import Served
from tools.tune.trials import Document, Quest, Yardstick, around, held, quest_from, run, take_on, verdict

Plan = tuple[Candidate, ...]
TRIALS = 2
# What each model would do alone says little of all of them and their generators together: that guess is trusted less.
GUESS_FACTOR = 2.0
PERSISTENCE = 4  # further trials of a plan of which none has held yet
GAIN = 1.03  # how much better a plan must seem to take the place of the best


@dataclass(frozen=True)
class Member:
    """One of the models.

    Attributes:
        served: the model.
        how: its yardstick.
        share: of all requests.
        present: the choice of its committed config.
        choices: others that are worth trying, the most promising first.
        simulated: how many there were to choose from.
        alone: the peak that it should have by itself, in requests per second.
    """

    served: Served
    how: Yardstick
    share: float
    present: Candidate
    choices: tuple[Candidate, ...]
    simulated: int
    alone: float


@dataclass
class Tried:
    """A plan and what is known of its peak."""

    plan: Plan
    quest: Quest

    def peak(self) -> float | None:
        """Total requests per second; None while no trial has held."""
        return self.quest.peak() if any(held(one) for one in self.quest.trials) else None


@dataclass
class Search:
    """A search and all that it has measured.

    Attributes:
        path: where it is kept; a search with the same `about` goes on from there.
        budget: seconds after which no further trial begins.
        spent: seconds so far, by earlier runs too.
        loaded: what the server has now.
    """

    members: tuple[Member, ...]
    path: Path
    about: Document
    budget: float
    say: Callable[[str], None]
    spent: float = 0.0
    tried: list[Tried] = field(default_factory=list)
    loaded: list[Candidate | None] = field(default_factory=list)

    def over(self) -> bool:
        """Whether the time is spent."""
        return self.spent >= self.budget

    def take_up(self) -> None:
        """Learn what an earlier search of the same things has measured."""
        found = json.loads(self.path.read_text()) if self.path.is_file() else {}
        if found.get("about") != json.loads(json.dumps(self.about)):
            return
        self.spent += found["seconds"]
        for each in found["tried"]:
            self.tried.append(Tried(tuple(candidate_from(one) for one in each["plan"]), quest_from(each)))

    def save(self) -> None:
        """Write everything down in one rename."""
        tried = [
            {"plan": [one.document() for one in each.plan], "start": each.quest.start, **each.quest.document()}
            for each in self.tried
        ]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, json.dumps({"about": self.about, "seconds": self.spent, "tried": tried}))


def go(search: Search) -> Tried:
    """Search until nothing improves or the time is spent; returns the best plan, the committed one at the worst."""
    present = tuple(member.present for member in search.members)
    best = attempt(search, present, around(guess(search.members), GUESS_FACTOR))
    for one in search.tried:
        best = one if better(one, best) else best
    improved = True
    while improved and not search.over():
        improved = False
        for place, member in enumerate(search.members):
            for choice in member.choices:
                plan = (*best.plan[:place], choice, *best.plan[place + 1 :])
                if search.over() or any(each.plan == plan for each in search.tried):
                    continue
                challenger = attempt(search, plan, around(best.quest.peak(), FACTOR), best)
                if better(challenger, best):
                    best, improved = challenger, True
    return best


def guess(members: tuple[Member, ...]) -> float:
    """The total rate at which the members together want all that each by itself could have."""
    return 1 / sum(member.share / member.alone for member in members)


def better(one: Tried, other: Tried) -> bool:
    """Whether a plan takes the place of another."""
    peak, its = one.peak(), other.peak()
    return peak is not None and (its is None or peak > GAIN * its)


def attempt(search: Search, plan: Plan, quest: Quest, best: Tried | None = None) -> Tried:
    """Measure a plan, no longer than it may yet be better than the best; `quest` is where it begins if it is new."""
    known = next((each for each in search.tried if each.plan == plan), None)
    one = known or Tried(plan, quest)
    if known is None:
        search.tried.append(one)
    for number in range(TRIALS + PERSISTENCE):
        enough = number >= TRIALS and one.peak() is not None
        # The first plan goes on, however late it is, until a trial has held: there would be no answer at all.
        late = search.over() and (best is not None or one.peak() is not None)
        if one.quest.trials and (enough or late or (best is not None and behind(one, best))):
            break
        began = time.monotonic()
        load(search, plan)
        trial = one.quest.step(lambda total, count: joint_trial(search.members, total, count))
        search.spent += time.monotonic() - began
        search.save()
        search.say(told(search, one, trial))
    return one


def behind(one: Tried, best: Tried) -> bool:
    """Whether a plan is surely worse than the best."""
    return best.peak() is not None and one.quest.interval()[1] < best.quest.interval()[0]


def load(search: Search, plan: Plan) -> None:
    """Serve a plan; models whose choice stays are left alone."""
    loaded = search.loaded or [None] * len(plan)
    for place, (member, choice) in enumerate(zip(search.members, plan, strict=True)):
        if loaded[place] != choice:
            take_on(member.served, member.how, choice)
            loaded[place] = choice
    search.loaded = loaded


def joint_trial(members: tuple[Member, ...], total: float, number: int) -> Document:
    """Open loops of all members at the same time, each with its share of a total rate."""
    seconds = max(trial_seconds(one.share * total, one.how.seconds, one.how.objectives) for one in members)

    def part(member: Member) -> Document:
        arrivals = open_loop("poisson", member.share * total, seconds, member.how.seed + number)
        # A client of its own: each part runs in a thread of its own.
        with Client(member.served.client.connection) as client:
            return run(replace(member.served, client=client), member.how, arrivals)

    with ThreadPoolExecutor(len(members)) as pool:
        parts = list(pool.map(part, members))
    verdicts = {name: all(bool(one[name]) for one in parts) for name in ("valid", "passed", "steady")}
    return {"rate": total, **verdicts, "parts": parts}


def told(search: Search, one: Tried, trial: Document) -> str:
    """Progress, with the early answer."""
    peaks = [peak for each in search.tried if (peak := each.peak()) is not None]
    so_far = f"best so far {max(peaks):,.0f}/s in all" if peaks else "none holds yet"
    return f"{label(search.members, one.plan)} at {trial['rate']:,.0f}/s in all: {verdict(trial)}; {so_far}"


def label(members: tuple[Member, ...], plan: Plan) -> str:
    """A plan in a few words."""
    return " | ".join(f"{member.served.model}: {choice.label()}" for member, choice in zip(members, plan, strict=True))
