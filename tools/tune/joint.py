"""The best plan for several models that share a server: settings for each of them, found model by model.

All models get their shares of one total rate at the same time, and a plan's peak is the highest total at which each of
them meets the objectives. Coordinate search: the settings of one model are varied while those of the others stay, and
whatever is better stays, until a whole round has improved nothing or the time is spent.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from clients.client import Client
from clients.command import say
from tools.tune.candidates import Candidate, Plan
from tools.tune.goal import Goal
from tools.tune.race import FACTOR, PERSISTENCE
from tools.tune.record import Contender, Record
from tools.tune.serving import ServedModel
from tools.tune.trials import Trial, join_trials, search_around

_TRIALS = 2
_GUESS_FACTOR = 2.0  # within which the sum of the models' own peaks is right two times in three
_GAIN = 1.03  # how much better a plan must be to replace the best


@dataclass(frozen=True)
class Member:
    """One of the models."""

    model: ServedModel
    share: float  # of all requests
    candidates: list[Candidate]  # worth trying besides the committed settings, the most promising first
    alone: float  # its expected peak by itself, in requests per second


@dataclass
class JointSearch:
    """A search for the best plan."""

    members: tuple[Member, ...]
    goal: Goal
    record: Record
    budget_s: float  # once it is spent, no further trial begins
    loaded: dict[str, Candidate] = field(default_factory=dict)  # the settings that the server has now, by model

    def is_over(self) -> bool:
        """Whether the time is spent."""
        return self.record.seconds >= self.budget_s


def run_search(search: JointSearch) -> Contender:
    """Search until nothing improves or the time is spent; returns the best plan, which may be the committed one."""
    committed = tuple(member.model.committed for member in search.members)
    # The total rate at which the models together need all that each of them could have by itself.
    guess = 1 / sum(member.share / member.alone for member in search.members)
    best = _measure(search, Contender(committed, search_around(guess, _GUESS_FACTOR)))
    for contender in search.record.contenders:
        best = _better(contender, best, search.goal)
    improved = True
    while improved and not search.is_over():
        before = best
        for place, member in enumerate(search.members):
            for candidate in member.candidates:
                plan = (*best.plan[:place], candidate, *best.plan[place + 1 :])
                if not (search.is_over() or search.record.find(plan)):
                    challenger = Contender(plan, search_around(best.search.peak(), FACTOR))
                    best = _better(_measure(search, challenger, best), best, search.goal)
        improved = best is not before
    return best


def _better(contender: Contender, best: Contender, goal: Goal) -> Contender:
    peak, its = contender.figure(goal), best.figure(goal)
    return contender if peak is not None and (its is None or peak > _GAIN * its) else best


def _measure(search: JointSearch, new: Contender, best: Contender | None = None) -> Contender:
    """Measure a plan for as long as it may be better than the best; a plan that is known goes on from its trials."""
    contender = search.record.find(new.plan)
    if contender is None:
        contender = new
        search.record.contenders.append(new)
    for number in range(_TRIALS + PERSISTENCE):
        is_able = contender.figure(search.goal) is not None
        # Whatever the time, the first plan goes on until a trial is sustained, or there would be no result.
        is_late = search.is_over() and (best is not None or is_able)
        is_behind = best is not None and _is_behind(contender, best, search.goal)
        if contender.search.trials and (is_late or is_behind or (is_able and number >= _TRIALS)):
            break
        began = time.monotonic()
        _load(search, contender.plan)
        trial = contender.search.step(lambda total, count: _joint_trial(search.members, total, count))
        search.record.seconds += time.monotonic() - began
        search.record.save()
        peaks = [peak for known in search.record.contenders if (peak := known.figure(search.goal)) is not None]
        so_far = f"best so far {max(peaks):,.0f}/s in total" if peaks else "nothing meets the objectives yet"
        label = contender.label([member.model.name for member in search.members])
        say(f"{label} at {trial.rate:,.0f}/s in total: {trial.verdict}; {so_far}")
    return contender


def _is_behind(contender: Contender, best: Contender, goal: Goal) -> bool:
    return best.figure(goal) is not None and contender.search.interval()[1] < best.search.interval()[0]


def _load(search: JointSearch, plan: Plan) -> None:
    """Serve a plan; models whose settings stay are left alone."""
    for member, candidate in zip(search.members, plan, strict=True):
        if search.loaded.get(member.model.name) != candidate:
            member.model.load(candidate)
            member.model.warm_up()
            search.loaded[member.model.name] = candidate


def _joint_trial(members: tuple[Member, ...], total: float, number: int) -> Trial:
    """Send open loops to all models at the same time, each with its share of the total rate."""
    seconds = max(member.model.trial_seconds(member.share * total) for member in members)

    def measure(member: Member) -> Trial:
        # Each thread needs a client of its own.
        with Client(member.model.client.connection) as client:
            return replace(member.model, client=client).open_trial(member.share * total, number, seconds)

    with ThreadPoolExecutor(len(members)) as pool:
        return join_trials(total, list(pool.map(measure, members)))
