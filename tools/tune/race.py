"""Measure all candidates briefly, the better half again, and so on, until the best is known or the time is spent.

Successive halving (Jamieson and Talwalkar, AISTATS 2016), with two changes: every trial is at the rate that is most
likely the candidate's peak, beginning at the leader's, so that also a single one tells much; and whoever has certainly
fallen behind gets no more.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from clients.command import say
from tools.tune.candidates import Candidate, Plan
from tools.tune.goal import Goal
from tools.tune.record import Contender, Record
from tools.tune.serving import ServedModel
from tools.tune.trials import PeakSearch, Trial, search_around

FACTOR = 1.3  # within which a new candidate's peak is the leader's, two times in three
_PERSISTENCE = 4  # further trials where the generator was the bottleneck, or nothing has met the objectives yet
TRIALS = 2  # of each candidate in a round
_FINALISTS = 3
_ALWAYS = 2  # candidates that are measured whatever the time, the committed settings among them
_ENTRY_SHARE = 0.5  # of the time, at most, for the first round
_ENTRY_TRIAL = 0.5  # length of the first trial, compared with later ones
_CALLERS, _CLOSED_S = 16, 0.5
# Open arrivals saturate a server earlier than callers who wait, whose batches are better.
_OPEN_SHARE, _OPEN_FACTOR = 0.6, 1.5
_PRECISION = 0.06
_ENOUGH_TRIALS = 8  # where latency or cost are compared
_CAUTION = 0.25  # peaks are compared at this quantile


@dataclass(frozen=True)
class Race:
    """What stays the same while choices are measured.

    Attributes:
        load: serves a plan.
        trial: measures what is served at a rate; the trials of a plan are numbered.
        models: their names, in the order of a plan.
        deadline: of time.monotonic(), after which no trial begins.
    """

    load: Callable[[Plan], None]
    trial: Callable[[float, int], Trial]
    models: Sequence[str]
    goal: Goal
    record: Record
    deadline: float

    def is_over(self) -> bool:
        """Whether the time is spent."""
        return time.monotonic() >= self.deadline

    def leader(self) -> Contender | None:
        """The best contender so far."""
        return best_contender(self.record, self.goal)

    def order(self, contender: Contender) -> tuple[float, float]:
        """The sort key by which the best contender comes first; the last trial's latency decides between equals."""
        last = contender.search.trials[-1].latency_ms[self.goal.percentile]
        return _rank(contender, self.goal), float("inf") if last is None else last


def run_race(model: ServedModel, candidates: list[Candidate], goal: Goal, record: Record, deadline: float) -> None:
    """Measure a model's candidates in order, as far as time allows, then the better ones again and again."""
    race = Race(partial(_load, model), partial(_trial, model, goal), (model.name,), goal, record, deadline)
    brief = replace(race, trial=partial(_trial, replace(model, trial_s=_ENTRY_TRIAL * model.trial_s), goal))
    until = time.monotonic() + _ENTRY_SHARE * (deadline - time.monotonic())
    for number, candidate in enumerate(candidates):
        if time.monotonic() >= until and number >= _ALWAYS:
            break
        if not record.find((candidate,)):
            contender = Contender((candidate,), _first_search(race, model, candidate))
            record.contenders.append(contender)
            measure(brief, contender, 1)
    standing = record.contenders
    while not race.is_over():
        standing = sorted(standing, key=race.order)[: max(_FINALISTS, len(standing) // 2)]
        undecided = [contender for contender in standing if not _is_decided(contender, race)]
        if not undecided:
            return
        for contender in undecided:
            if not race.is_over():
                measure(race, contender, TRIALS)


def _load(model: ServedModel, plan: Plan) -> None:
    (candidate,) = plan
    model.load(candidate)
    model.warm_up()


def _trial(model: ServedModel, goal: Goal, rate: float, number: int) -> Trial:
    return model.open_trial(goal.rate or rate, number)


def _first_search(race: Race, model: ServedModel, candidate: Candidate) -> PeakSearch:
    if race.goal.rate:
        return search_around(race.goal.rate, FACTOR)
    if leader := race.leader():
        return search_around(leader.search.peak(), FACTOR)
    race.load((candidate,))
    closed = model.closed_rate(_CALLERS, max(_CLOSED_S, model.trial_s))
    return search_around(_OPEN_SHARE * closed, _OPEN_FACTOR)


def measure(race: Race, contender: Contender, trials: int) -> None:
    """Run some trials: more while no contender has met the objectives, fewer once this one has fallen behind."""
    is_loaded, valid = False, 0
    for _ in range(trials + _PERSISTENCE):
        # Whatever the time: a contender gets one trial, and without a leader there would be no result.
        is_enough = bool(contender.search.trials) and (valid >= trials or race.is_over()) and race.leader()
        if is_enough or _is_behind(contender, race):
            break
        began = time.monotonic()
        if not is_loaded:
            race.load(contender.plan)
            is_loaded = True
        trial = contender.search.step(race.trial)
        valid += trial.valid
        race.record.seconds += time.monotonic() - began
        race.record.save()
        best, so_far = race.leader(), "nothing meets the objectives yet"
        if best and (figure := best.figure(race.goal)):
            so_far = f"best so far: {best.label(race.models)}, {race.goal.format(figure)}"
        say(f"{contender.label(race.models)} at {trial.rate:,.0f}/s: {trial.verdict}; {so_far}")


def _is_behind(contender: Contender, race: Race) -> bool:
    best = race.leader()
    if best is None or best is contender or len(contender.search.trials) < TRIALS:
        return False
    if race.goal.rate is None:
        return contender.search.interval()[1] < best.search.interval()[0]
    own, leading = contender.figure(race.goal), best.figure(race.goal)
    return own is None or (leading is not None and race.goal.gain(own, leading) < 1 / FACTOR)


def best_contender(record: Record, goal: Goal) -> Contender | None:
    """The best contender of a record; None where none meets the objectives."""
    able = [contender for contender in record.contenders if contender.figure(goal) is not None]
    return min(able, key=lambda contender: _rank(contender, goal), default=None)


def _rank(contender: Contender, goal: Goal) -> float:
    """A figure that is lower for better contenders.

    Peaks are compared at a lower quantile, or one with few trials would win by its uncertainty.
    """
    if goal.rate is None:
        return -contender.search.state.belief.quantile(_CAUTION)
    figure = contender.figure(goal)
    return float("inf") if figure is None else figure


def _is_decided(contender: Contender, race: Race) -> bool:
    if race.goal.rate:
        return len(contender.search.trials) >= _ENOUGH_TRIALS or _is_behind(contender, race)
    return contender.search.state.is_narrow(_PRECISION) or _is_behind(contender, race)
