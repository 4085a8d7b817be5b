"""The few choices that are measured, and how the time is shared among them: whoever has fallen behind gets no more.

The twin's figures say where to begin; how far they are off is learned from each choice that is measured, since a twin
that flatters one choice of a deployment flatters its neighbours too.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from tools.tune.candidates import Candidate
from tools.tune.goal import Goal
from tools.tune.prediction import Prediction
from tools.tune.record import Measured, Record, figure
from tools.tune.served import Served
from tools.tune.trials import Document, Yardstick, around, open_trial, take_on, verdict

FACTOR = 1.3  # within which a prediction is trusted before anything was measured
FIRST_TRIALS = 2
MORE_TRIALS = 2
PERSISTENCE = 4  # further trials of a choice where the generator spoiled some, or no choice has held yet
RUNNERS_UP = 3
# The present choice and the twin's best are tried once, however late it is.
ALWAYS = 2
PRECISION = 0.06
CAUTION = 0.25  # the probability that a peak is lower than it is taken for in comparisons


@dataclass(frozen=True)
class Race:
    """What stays the same while choices are measured.

    Attributes:
        deadline: moment of time.monotonic() at which no further trial begins.
        say: told of each step.
    """

    served: Served
    how: Yardstick
    goal: Goal
    record: Record
    deadline: float
    say: Callable[[str], None]

    def over(self) -> bool:
        """Whether the time is spent."""
        return time.monotonic() >= self.deadline


def go(race: Race, choices: list[Candidate], predictions: dict[Candidate, Prediction]) -> None:
    """Measure the choices in turn, then those that lead, until the time is spent or nothing is in doubt."""
    for number, choice in enumerate(choices):
        if not any(one.candidate == choice for one in race.record.measured):
            if race.over() and number >= ALWAYS:
                return
            enter(race, choice, predictions.get(choice))
    while not race.over() and (doubtful := in_doubt(race)):
        for one in doubtful:
            if not race.over():
                try_again(race, one, MORE_TRIALS)


def enter(race: Race, choice: Candidate, prediction: Prediction | None) -> None:
    """Measure a choice for the first time; no further once it has surely fallen behind."""
    predicted = prediction.figure if prediction else None
    rate = race.goal.rate or expected(race.record, choice, predicted)
    one = Measured(choice, predicted, around(rate, FACTOR))
    for trial in race.record.open_runs(choice) if race.goal.rate is None else ():
        one.quest.note(trial)
    race.record.measured.append(one)
    try_again(race, one, max(1, FIRST_TRIALS - len(one.quest.trials)))


def expected(record: Record, choice: Candidate, predicted: float | None) -> float:
    """The peak that a choice should have: the twin's, times what it was off by with choices of its deployment."""
    known = [one for one in record.measured if one.predicted]
    same = [one for one in known if one.candidate.deployment == choice.deployment] or known
    ratio = median(one.quest.peak() / one.predicted for one in same if one.predicted) if same else 1.0
    peaks = [one.quest.peak() for one in known]
    return predicted * ratio if predicted else max(1.0, median(peaks) if peaks else 100.0)


def try_again(race: Race, one: Measured, times: int) -> None:
    """So many trials of a choice; more while no choice at all has held, fewer when it has surely fallen behind."""
    loaded, valid = False, 0
    for _ in range(times + PERSISTENCE):
        # However late it is: without a leader there would be no answer.
        if ((valid >= times or race.over()) and leader(race)) or behind(one, race):
            break
        began = time.monotonic()
        if not loaded:
            take_on(race.served, race.how, one.candidate)
            loaded = True
        trial = one.quest.step(lambda rate, number: open_trial(race.served, race.how, race.goal.rate or rate, number))
        valid += bool(trial["valid"])
        race.record.seconds += time.monotonic() - began
        race.record.save()
        race.say(told(race, one, trial))


def behind(one: Measured, race: Race) -> bool:
    """Whether another choice is surely better."""
    best = leader(race)
    if best is None or best is one or len(one.quest.trials) < MORE_TRIALS:
        return False
    if race.goal.rate is None:
        return one.quest.interval()[1] < best.quest.interval()[0]
    own, its = figure(one, race.goal), figure(best, race.goal)
    return own is None or (its is not None and race.goal.gain(own, its) < 1 / FACTOR)


def leader(race: Race) -> Measured | None:
    """The best so far."""
    return best_of(race.record, race.goal)


def best_of(record: Record, goal: Goal) -> Measured | None:
    """The best choice of a record; None where none keeps to the objective.

    Peaks are compared by what they surely are, or a choice that was hardly tried would win by what is not known of it.
    """
    able = [one for one in record.measured if figure(one, goal) is not None]
    if goal.rate is None:
        return max(able, key=lambda one: one.quest.search.belief.quantile(CAUTION), default=None)
    return min(able, key=lambda one: figure(one, goal) or 0.0, default=None)


def in_doubt(race: Race) -> list[Measured]:
    """The leader and those that may yet be better, a few; none when they are all known well enough."""
    best = leader(race)
    if best is None:
        return []
    rivals = [one for one in race.record.measured if one is not best and not behind(one, race)]
    rivals = sorted(rivals, key=lambda one: -one.quest.peak())[: RUNNERS_UP - 1]
    enough = [one for one in (best, *rivals) if known_well(one, race.goal)]
    return [one for one in (best, *rivals) if one not in enough]


def known_well(one: Measured, goal: Goal) -> bool:
    """Whether more trials would say little."""
    return len(one.quest.trials) >= 8 if goal.rate else one.quest.search.is_narrow(PRECISION)


def told(race: Race, one: Measured, trial: Document) -> str:
    """Progress, with the early answer."""
    best = leader(race)
    value = figure(best, race.goal) if best else None
    so_far = f"best so far: {best.candidate.label()}, {race.goal.shown(value)}" if best and value else "none holds yet"
    return f"{one.candidate.label()} at {trial['rate']:,.0f}/s: {verdict(trial)}; {so_far}"
