"""The best plan for several models that share a server: settings for each of them, found model by model.

All models get their shares of one total rate at the same time, and a plan's peak is the highest total at which each of
them meets the objectives. Coordinate search: the settings of one model are varied while those of the others stay, and
whatever is better stays, until a whole round has improved nothing or the time is spent.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from clients.client import Client
from tools.tune.candidates import Candidate, Plan
from tools.tune.goal import Goal
from tools.tune.race import FACTOR, TRIALS, Race, measure
from tools.tune.record import Contender, Record
from tools.tune.serving import ServedModel
from tools.tune.trials import Trial, join_trials, search_around

_GUESS_FACTOR = 2.0  # within which the sum of the models' own peaks is right two times in three


@dataclass(frozen=True)
class Member:
    """One of the models."""

    model: ServedModel
    share: float  # of all requests
    candidates: list[Candidate]  # worth trying besides the committed settings, the most promising first
    alone: float  # its expected peak by itself, in requests per second


def search_plans(members: Sequence[Member], goal: Goal, record: Record, deadline: float) -> Contender:
    """Search until nothing improves or the time is spent; returns the best plan, which may be the committed one."""
    loaded: dict[str, Candidate] = {}
    race = Race(
        load=lambda plan: _load(members, plan, loaded),
        trial=partial(_joint_trial, members),
        models=[member.model.name for member in members],
        goal=goal,
        record=record,
        deadline=deadline,
    )
    # The total rate at which the models together need all that each of them could have by itself.
    guess = 1 / sum(member.share / member.alone for member in members)
    committed = _entered(race, tuple(member.model.committed for member in members), guess, _GUESS_FACTOR)
    measure(race, committed, TRIALS)
    best, before = race.leader() or committed, None
    while best is not before:
        before = best
        for place, member in enumerate(members):
            for candidate in member.candidates:
                plan = (*best.plan[:place], candidate, *best.plan[place + 1 :])
                if not (race.is_over() or record.find(plan)):
                    measure(race, _entered(race, plan, best.search.peak(), FACTOR), TRIALS)
                    best = race.leader() or best
    return best


def _entered(race: Race, plan: Plan, rate: float, factor: float) -> Contender:
    """The contender with a plan, which goes on from its trials if it is known."""
    if known := race.record.find(plan):
        return known
    race.record.contenders.append(Contender(plan, search_around(rate, factor)))
    return race.record.contenders[-1]


def _load(members: Sequence[Member], plan: Plan, loaded: dict[str, Candidate]) -> None:
    """Serve a plan; models whose settings stay are left alone."""
    for member, candidate in zip(members, plan, strict=True):
        if loaded.get(member.model.name) != candidate:
            member.model.load(candidate)
            member.model.warm_up()
            loaded[member.model.name] = candidate


def _joint_trial(members: Sequence[Member], total: float, number: int) -> Trial:
    """Send open loops to all models at the same time, each with its share of the total rate."""
    seconds = max(member.model.trial_seconds(member.share * total) for member in members)

    def measure(member: Member) -> Trial:
        # Each thread needs a client of its own.
        with Client(member.model.client.connection) as client:
            return replace(member.model, client=client).open_trial(member.share * total, number, seconds)

    with ThreadPoolExecutor(len(members)) as pool:
        return join_trials(total, list(pool.map(measure, members)))
