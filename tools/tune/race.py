"""Measure the most promising candidates, and share the time among them: whoever has fallen behind gets no more.

The twin's predictions say at which rate to begin. How far they are off is learned from each measured candidate, because
the twin's error is much the same for all candidates of a deployment.
"""

import time
from dataclasses import dataclass
from statistics import median

from clients.command import say
from tools.tune.candidates import Candidate
from tools.tune.goal import Goal
from tools.tune.prediction import Prediction
from tools.tune.record import Contender, Record
from tools.tune.serving import ServedModel
from tools.tune.trials import search_around

FACTOR = 1.3  # within which a prediction is right two times in three
PERSISTENCE = 4  # further trials where the generator was the bottleneck, or nothing has met the objectives yet
_TRIALS = 2
_RUNNERS_UP = 2
_ALWAYS = 2  # the committed settings and the twin's best are measured whatever the time
_PRECISION = 0.06
_ENOUGH_TRIALS = 8  # where latency or cost are compared
_CAUTION = 0.25  # peaks are compared at this quantile


@dataclass(frozen=True)
class Race:
    """What stays the same while candidates are measured."""

    model: ServedModel
    goal: Goal
    record: Record
    deadline: float  # of time.monotonic(), after which no trial begins

    def is_over(self) -> bool:
        """Whether the time is spent."""
        return time.monotonic() >= self.deadline

    def leader(self) -> Contender | None:
        """The best contender so far."""
        return best_contender(self.record, self.goal)


def run_race(race: Race, candidates: list[Candidate], predictions: dict[Candidate, Prediction]) -> None:
    """Measure the candidates in order, then the leaders again until the time is spent or the order is settled."""
    for number, candidate in enumerate(candidates):
        if not race.record.find((candidate,)):
            if race.is_over() and number >= _ALWAYS:
                return
            _enter(race, candidate, predictions.get(candidate))
    while not race.is_over() and (undecided := _undecided(race)):
        for contender in undecided:
            if not race.is_over():
                _measure(race, contender, _TRIALS)


def _enter(race: Race, candidate: Candidate, prediction: Prediction | None) -> None:
    predicted = prediction.figure if prediction else None
    rate = race.goal.rate or _expected_peak(race.record, candidate, predicted)
    contender = Contender((candidate,), search_around(rate, FACTOR), predicted)
    if race.goal.rate is None:
        # The open loops with which it was calibrated count as its trials too.
        for run in (run for known in race.record.calibrations if known.candidate == candidate for run in known.runs):
            if not run.concurrency:
                contender.search.note(run)
    race.record.contenders.append(contender)
    _measure(race, contender, max(1, _TRIALS - len(contender.search.trials)))


def _expected_peak(record: Record, candidate: Candidate, predicted: float | None) -> float:
    """The twin's prediction, corrected by its error for other candidates of the deployment."""
    known = [contender for contender in record.contenders if contender.predicted]
    same = [contender for contender in known if contender.candidate.deployment == candidate.deployment] or known
    ratios = [contender.search.peak() / contender.predicted for contender in same if contender.predicted]
    if predicted:
        return predicted * (median(ratios) if ratios else 1.0)
    return max(1.0, median(contender.search.peak() for contender in known) if known else 100.0)


def _measure(race: Race, contender: Contender, trials: int) -> None:
    """Run some trials: more while no contender has met the objectives, fewer once this one has fallen behind."""
    is_loaded, valid = False, 0
    for _ in range(trials + PERSISTENCE):
        # Whatever the time: a contender gets one trial, and without a leader there would be no result.
        is_enough = bool(contender.search.trials) and (valid >= trials or race.is_over()) and race.leader()
        if is_enough or _is_behind(contender, race):
            break
        began = time.monotonic()
        if not is_loaded:
            race.model.load(contender.candidate)
            race.model.warm_up()
            is_loaded = True
        trial = contender.search.step(lambda rate, number: race.model.open_trial(race.goal.rate or rate, number))
        valid += trial.valid
        race.record.seconds += time.monotonic() - began
        race.record.save()
        best, so_far = race.leader(), "nothing meets the objectives yet"
        if best and (figure := best.figure(race.goal)):
            so_far = f"best so far: {best.candidate.label()}, {race.goal.format(figure)}"
        say(f"{contender.candidate.label()} at {trial.rate:,.0f}/s: {trial.verdict}; {so_far}")


def _is_behind(contender: Contender, race: Race) -> bool:
    best = race.leader()
    if best is None or best is contender or len(contender.search.trials) < _TRIALS:
        return False
    if race.goal.rate is None:
        return contender.search.interval()[1] < best.search.interval()[0]
    own, leading = contender.figure(race.goal), best.figure(race.goal)
    return own is None or (leading is not None and race.goal.gain(own, leading) < 1 / FACTOR)


def best_contender(record: Record, goal: Goal) -> Contender | None:
    """The best contender of a record; None where none meets the objectives.

    Peaks are compared at a lower quantile, or one with few trials would win by its uncertainty.
    """
    able = [contender for contender in record.contenders if contender.figure(goal) is not None]
    if goal.rate is None:
        return max(able, key=lambda contender: contender.search.state.belief.quantile(_CAUTION), default=None)
    return min(able, key=lambda contender: contender.figure(goal) or 0.0, default=None)


def _undecided(race: Race) -> list[Contender]:
    """The leader and a few that may yet be better, without those that are known well enough."""
    best = race.leader()
    if best is None:
        return []
    rivals = [other for other in race.record.contenders if other is not best and not _is_behind(other, race)]
    rivals = sorted(rivals, key=lambda contender: -contender.search.peak())[:_RUNNERS_UP]
    if race.goal.rate:
        return [contender for contender in (best, *rivals) if len(contender.search.trials) < _ENOUGH_TRIALS]
    return [contender for contender in (best, *rivals) if not contender.search.state.is_narrow(_PRECISION)]
