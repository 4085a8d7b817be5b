"""What commands that search for the highest rate ask for and print."""

import argparse
from collections.abc import Mapping
from typing import Any

from clients.command import duration, positive_float, say
from loadtest.analysis.highest_rate import Effort, Peak
from loadtest.analysis.result import RunResult
from loadtest.report.axes import interval, number


def add_search_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --slo, and the options that `search_effort` reads."""
    parser.add_argument("--slo", required=True, help="what a sustained rate must meet, e.g. 'p99<20ms,errors<0.1%%'")
    default = "(default: %(default)s)"
    for flag, seconds, text in (("--trial", 5, "of a trial, as 5, 5s or 1m"), ("--budget", 120, "in all")):
        parser.add_argument(flag, type=duration, default=f"{seconds}s", metavar="TIME", help=f"{text} {default}")
    text = f"relative width of the interval at which the search ends {default}"
    parser.add_argument("--precision", type=positive_float, default=Effort.precision, metavar="N", help=text)


def search_effort(arguments: argparse.Namespace) -> Effort:
    """Read the options that `add_search_arguments` added."""
    return Effort(arguments.trial, arguments.budget, arguments.precision)


def tell_trial(trial: RunResult, peak: Peak) -> None:
    """Report progress: what came of a trial, and what is believed now."""
    held = "sustained" if trial.is_sustained else "not sustained"
    outcome = f"{number(trial.load.rate)}/s {held}" if trial.is_valid else "invalid trial"
    belief = peak.search.belief
    say(f"{outcome}; peak about {number(belief.quantile(0.5))}/s ({interval(*belief.interval())})")


def peak_line(document: Mapping[str, Any]) -> str:
    """One sentence about a search's document."""
    least = "at least " if document["at_least"] else ""
    return (
        f"{document['model']}: {least}{number(document['peak_rps'])} requests per second under {document['slo']}, "
        f"90 % interval {interval(document['low_rps'], document['high_rps'])}, {len(document['trials'])} trials"
    )
