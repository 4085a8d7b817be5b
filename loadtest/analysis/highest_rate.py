"""The highest rate that a model sustains under objectives: trials, one after the other, until it is known."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from clients.errors import InvalidInput
from loadtest import slo
from loadtest.analysis.audit import INVALID
from loadtest.analysis.peak_search import Search, trial_seconds, uniform_belief
from loadtest.analysis.result import RunResult
from loadtest.load import Load, closed_loop, open_loop

_CALLERS, _LOOP_S = 64, 3.0  # of the closed loop that finds the order of magnitude
_SPAN = (1 / 50, 2.0)  # multiples of its throughput between which the peak is searched
_MOST_INVALID = 3  # consecutive trials in which the generator was the bottleneck
_LONGEST_TRIAL_S = 60.0
# Figures of each trial in the document; those of tokens are a language model's.
_KEPT = (
    *("rate", "requests", "p50_ms", "p99_ms", "rps", "goodput_rps", "sustained"),
    *("ttft_p50_ms", "ttft_p95_ms", "itl_p50_ms", "itl_p99_ms", "tokens_per_s"),
)

Trial = Callable[[Load], RunResult]


@dataclass(frozen=True)
class Effort:
    """How long to search."""

    trial_s: float = 5.0  # of the shortest trial
    budget_s: float = 120.0  # in all
    precision: float = 0.15  # relative width of the interval at which the search ends


@dataclass
class Peak:
    """A search with its valid trials."""

    search: Search
    precision: float  # relative width of the interval at which the search ends
    trials: list[RunResult] = field(default_factory=list)

    @property
    def is_generator_bound(self) -> bool:
        """Whether the generator could not send as much as the server takes."""
        return self.search.invalid >= _MOST_INVALID

    @property
    def exit_code(self) -> int:
        """0 for a narrow interval, 1 for a wide one or no sustained rate, 3 where the generator was the bottleneck."""
        if self.is_generator_bound:
            return INVALID
        return int(not (self.search.is_narrow(self.precision) and any(trial.is_sustained for trial in self.trials)))

    def note(self, trial: RunResult, rate: float) -> None:
        """Learn from a trial."""
        self.search.note(rate, trial.is_sustained if trial.is_valid else None)
        if trial.is_valid:
            self.trials.append(trial)

    def document(self) -> dict[str, Any]:
        """As JSON; rates in requests per second, the peak with its 90 % interval."""
        belief = self.search.belief
        low, high = belief.interval()
        trials = [trial.document() | {"sustained": trial.is_sustained} for trial in self.trials]
        failed = [trial for trial in self.trials if not trial.is_sustained]
        lowest = min(failed, key=lambda trial: trial.load.rate or 0.0, default=None)
        return {
            "peak_rps": round(belief.quantile(0.5), 2),
            "low_rps": round(low, 2),
            "high_rps": round(high, 2),
            "narrow": self.search.is_narrow(self.precision),
            "at_least": bool(high >= belief.rates[-2]),
            "sustained_rps": max((round(trial["rate"], 2) for trial in trials if trial["sustained"]), default=None),
            "generator_bound": self.is_generator_bound,
            "trials": [{name: trial[name] for name in _KEPT if name in trial} for trial in trials],
            "bound": [str(finding) for finding in lowest.explanation[:1]] if lowest else [],
        }


def find_peak(
    trial: Trial,
    objectives: Sequence[slo.Objective],
    effort: Effort,
    seed: int,
    on_trial: Callable[[RunResult, Peak], None] = lambda result, peak: None,
) -> Peak:
    """Try rates until the interval is narrow or the budget is spent.

    Raises InvalidInput if the model is so slow that no trial has enough requests for the percentile.
    """
    start, loop = time.monotonic(), closed_loop(_CALLERS, min(effort.trial_s, _LOOP_S))
    # The server's own count holds even where the generator was the bottleneck; behind a door, it is one replica's.
    first = trial(loop)
    answered = max(first.server.counted.requests, first.figures.requests - first.figures.errors)
    highest = max(1.0, answered / loop.duration)
    peak = Peak(Search(uniform_belief(highest * _SPAN[0], highest * _SPAN[1])), effort.precision)
    while not peak.search.is_narrow(effort.precision) and not peak.is_generator_bound:
        rate = peak.search.belief.quantile(0.5)
        seconds = trial_seconds(rate, effort.trial_s, objectives)
        if seconds > _LONGEST_TRIAL_S:
            raise InvalidInput(f"at {rate:.2g} requests per second a trial takes {seconds:,.0f} s; ask for p50 or p90")
        if time.monotonic() - start + seconds > effort.budget_s:
            break
        # A new schedule each time: the same bursts would repeat the same mistake.
        seed += 1
        result = trial(open_loop("poisson", rate, seconds, seed))
        peak.note(result, rate)
        on_trial(result, peak)
    return peak
