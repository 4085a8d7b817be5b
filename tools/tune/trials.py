"""What is measured of a choice: closed loops that show how it works, and the highest rate within the objective."""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from loadtest import slo
from loadtest.analysis.measurement import Setting, measure, setting_of
from loadtest.analysis.peak_search import Belief, Search, trial_seconds
from loadtest.load import Load, closed_loop, open_loop
from loadtest.options import generator_options
from tools.tune.candidates import Candidate
from tools.tune.served import Served

Document = dict[str, Any]
# Of a trial's document, what is kept.
KEPT = ("rate", "concurrency", "requests", "errors", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "mean_ms", "rps")
OF_SERVER = ("mean_batch", "queue_us", "batches", "busy_instances", "cpu_s", "requests")
SHORTEST_TIMEOUT_S, PATIENCE = 1.0, 5.0
BACK_OFF = 0.9
WARM_CALLERS, WARM_S = 16, 0.6


@dataclass(frozen=True)
class Yardstick:
    """How choices of one model are measured.

    Attributes:
        setting: payload and generator.
        objectives: what a sustained rate must meet.
        seconds: of a trial, at the least.
        seed: of the first schedule; every trial has another one.
    """

    setting: Setting
    objectives: list[slo.Objective]
    seconds: float
    seed: int


def yardstick(served: Served, arguments: argparse.Namespace, objectives: list[slo.Objective]) -> Yardstick:
    """Encode the requests, once for all choices."""
    setting = setting_of(served.client, served.model, generator_options(arguments))
    return Yardstick(impatient(setting, objectives), objectives, arguments.trial, arguments.seed)


def impatient(setting: Setting, objectives: list[slo.Objective]) -> Setting:
    """Without waiting long for answers that come too late: an overloaded server would take the time of ten trials."""
    limit_s = (slo.goodput_limit_ms(objectives) or 0.0) / 1000
    timeout_s = min(setting.connection.timeout_s, max(SHORTEST_TIMEOUT_S, PATIENCE * limit_s))
    return replace(setting, connection=replace(setting.connection, timeout_s=timeout_s))


def run(served: Served, how: Yardstick, load: Load) -> Document:
    """Send one load, and keep what matters of the outcome."""
    served.check()
    whole = measure(served.client, how.setting, load, how.objectives).document()
    kept = {name: whole.get(name) for name in KEPT}
    server = {name: whole["server"].get(name) for name in OF_SERVER}
    cost = whole["generator"]["requests_per_core_s"]
    return {
        **kept,
        "duration_s": load.duration,
        "valid": whole["valid"],
        "passed": whole["passed"],
        "steady": whole["steady"],
        "sender_us": 1e6 / cost if cost else None,
        "server": server,
    }


def take_on(served: Served, how: Yardstick, choice: Candidate) -> None:
    """Serve a choice and let it warm up: TorchScript specializes itself for the shapes that it sees first."""
    served.take_on(choice)
    options = replace(how.setting.options, warm_up_s=0.0)
    measure(served.client, replace(how.setting, options=options), closed_loop(WARM_CALLERS, WARM_S), [])


def close(served: Served, how: Yardstick, callers: int, seconds: float) -> Document:
    """A closed loop; its rate is the server's own count, whatever the generator was."""
    found = run(served, how, closed_loop(callers, seconds))
    return {**found, "server_rps": max(1.0, found["server"]["requests"] / seconds)}


def open_trial(served: Served, how: Yardstick, rate: float, number: int) -> Document:
    """An open loop with Poisson arrivals, long enough for the percentile of the objective."""
    seconds = trial_seconds(rate, how.seconds, how.objectives)
    return run(served, how, open_loop("poisson", rate, seconds, how.seed + number))


def held(trial: Document) -> bool:
    """Whether a trial kept to the objectives, and the server up with the arrivals."""
    return bool(trial["valid"] and trial["passed"] and trial["steady"])


def verdict(trial: Document) -> str:
    """What a trial said, in a word or three."""
    return "held" if held(trial) else "not held" if trial["valid"] else "generator too slow"


@dataclass
class Quest:
    """The search for one choice's peak, a trial at a time.

    Attributes:
        search: what is believed of the peak.
        trials: all that were made, those of which the generator was the bottleneck too.
        start: the rate with which it began, and the factor within which that was thought to be right.
    """

    search: Search
    trials: list[Document]
    start: tuple[float, float]

    def peak(self) -> float:
        """The most likely highest sustained rate, in requests per second."""
        return self.search.belief.quantile(0.5)

    def interval(self) -> tuple[float, float]:
        """Where it lies with a probability of 90 %."""
        return self.search.belief.interval()

    def step(self, trial: Callable[[float, int], Document]) -> Document:
        """One more trial, at the rate that halves what is believed; below it after some that the generator spoiled."""
        found = trial(self.peak() * BACK_OFF**self.search.invalid, len(self.trials))
        self.note(found)
        return found

    def note(self, found: Document) -> None:
        """Learn from a trial."""
        self.search.note(found["rate"], held(found) if found["valid"] else None)
        self.trials.append(found)

    def document(self) -> Document:
        """As JSON."""
        low, high = self.interval()
        return {
            "peak_rps": round(self.peak(), 1),
            "low_rps": round(low, 1),
            "high_rps": round(high, 1),
            "trials": self.trials,
        }


def around(rate: float, factor: float) -> Quest:
    """A search that begins at a rate which is thought to be right within a factor, with two thirds probability."""
    rates = np.geomspace(rate / factor**4, rate * factor**4, 2000)
    weights = np.exp(-0.5 * (np.log(rates / rate) / np.log(factor)) ** 2)
    return Quest(Search(Belief(rates, weights / weights.sum())), [], (rate, factor))


def quest_from(document: Document) -> Quest:
    """A search as a file has it; what is believed is worked out of its trials anew."""
    quest = around(*document["start"])
    for trial in document["trials"]:
        quest.note(trial)
    return quest


def pursue(quest: Quest, trial: Callable[[float, int], Document], precision: float, budget_s: float) -> Quest:
    """Try until the interval is narrow or the time is spent."""
    began = time.monotonic()
    while not quest.search.is_narrow(precision) and time.monotonic() - began < budget_s:
        quest.step(trial)
    return quest
