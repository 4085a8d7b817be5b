"""Find the highest rate that a model sustains under an objective.

Each trial is an open loop with Poisson arrivals at the median of the current belief (`loadtest.analysis.peak_search`).
A rate is sustained when its trial meets the objective and the server keeps up. Trials in which the generator was the
bottleneck are ignored. The last line of stdout is one JSON document. The exit code is 0 when the interval is within
--precision, 1 when the budget ran out before or no rate was sustained, 2 when the search could not be run, 3 when the
generator cannot send as much as the server takes.

    python -m loadtest.peak mnist_mlp --slo 'p99<20ms' --protocol grpc --budget 120
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from clients.client import Client
from clients.command import command, command_parser, duration, positive_float, print_json, say
from clients.connection import add_connection_arguments
from clients.errors import InvalidInput
from clients.generation import is_language_model
from loadtest import slo
from loadtest.analysis.audit import INVALID
from loadtest.analysis.measurement import measure, prompt_setting, setting_of
from loadtest.analysis.peak_search import Search, trial_seconds, uniform_belief
from loadtest.analysis.result import RunResult
from loadtest.load import Load, closed_loop, open_loop
from loadtest.options import add_generator_arguments, generator_options
from loadtest.prompts import STREAMS, add_prompt_arguments, prompt_options, stream_connection
from loadtest.report.page import interval, number

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
        """See the module's docstring."""
        if self.is_generator_bound:
            return INVALID
        return int(not (self.search.is_narrow(self.precision) and any(trial.is_sustained for trial in self.trials)))

    def note(self, trial: RunResult, rate: float) -> None:
        """Learn from a trial, and report progress."""
        self.search.note(rate, trial.is_sustained if trial.is_valid else None)
        outcome = "invalid trial"
        if trial.is_valid:
            self.trials.append(trial)
            outcome = f"{number(rate)}/s {'sustained' if trial.is_sustained else 'not sustained'}"
        belief = self.search.belief
        say(f"{outcome}; peak about {number(belief.quantile(0.5))}/s ({interval(*belief.interval())})")

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
    trial: Trial, objectives: Sequence[slo.Objective], trial_s: float, budget_s: float, precision: float, seed: int
) -> Peak:
    """Try rates, each for at least `trial_s` seconds, until the interval is narrow or `budget_s` seconds are spent.

    Raises InvalidInput if the model is so slow that no trial has enough requests for the percentile.
    """
    start, loop = time.monotonic(), closed_loop(_CALLERS, min(trial_s, _LOOP_S))
    # The server's own count, where there is one, holds even where the generator was the bottleneck.
    first = trial(loop)
    answered = first.server.counted.requests or first.figures.requests - first.figures.errors
    highest = max(1.0, answered / loop.duration)
    peak = Peak(Search(uniform_belief(highest * _SPAN[0], highest * _SPAN[1])), precision)
    while not peak.search.is_narrow(precision) and not peak.is_generator_bound:
        rate = peak.search.belief.quantile(0.5)
        seconds = trial_seconds(rate, trial_s, objectives)
        if seconds > _LONGEST_TRIAL_S:
            raise InvalidInput(f"at {rate:.2g} requests per second a trial takes {seconds:,.0f} s; ask for p50 or p90")
        if time.monotonic() - start + seconds > budget_s:
            break
        # A new schedule each time: the same bursts would repeat the same mistake.
        seed += 1
        peak.note(trial(open_loop("poisson", rate, seconds, seed)), rate)
    return peak


@command()
def main() -> int:
    """Search for the peak."""
    parser = command_parser("loadtest.peak", __doc__)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--slo", required=True, help="what a sustained rate must meet, e.g. 'p99<20ms,errors<0.1%%'")
    for flag, kind, default, text in (
        ("--trial", duration, "5s", "of a trial, as 5, 5s or 1m"),
        ("--budget", duration, "2m", "in all"),
        ("--precision", positive_float, 0.15, "relative width of the interval at which the search ends"),
    ):
        metavar = "TIME" if kind is duration else "N"
        parser.add_argument(flag, type=kind, default=default, metavar=metavar, help=f"{text} (default: %(default)s)")
    add_prompt_arguments(parser)
    add_generator_arguments(parser)
    add_connection_arguments(parser, retries=None, protocols=STREAMS)
    arguments = parser.parse_args()
    model, protocol, options = arguments.model, arguments.protocol, generator_options(arguments)
    limits = (arguments.trial, arguments.budget, arguments.precision)
    with Client(stream_connection(arguments)) as client:
        has_tokens = protocol == "openai" or is_language_model(client.contract(model))
        objectives = slo.parse(arguments.slo, has_tokens)
        if has_tokens:
            setting = prompt_setting(client, model, protocol, options, prompt_options(arguments))
        else:
            setting = setting_of(client, model, options)
        peak = find_peak(lambda load: measure(client, setting, load, objectives), objectives, *limits, options.seed)
    document = peak.document()
    least = "at least " if document["at_least"] else ""
    print(
        f"{arguments.model}: {least}{number(document['peak_rps'])} requests per second under {arguments.slo}, "
        f"90 % interval {interval(document['low_rps'], document['high_rps'])}, {len(peak.trials)} trials"
    )
    print(*document["bound"], sep="\n")
    print_json({"model": arguments.model, "protocol": arguments.protocol, "slo": arguments.slo, **document})
    return peak.exit_code


if __name__ == "__main__":
    sys.exit(main())
