"""The page of a capacity: what several numbers of replicas sustain, beside the rate that is asked for."""

from collections.abc import Iterator, Mapping
from typing import Any

from loadtest.report.axes import Axis, number
from loadtest.report.charts import Dot, dots
from loadtest.report.page import Page, Section
from loadtest.report.peak_lines import peak_line
from tools.capacity.need import ASSUMED, Need

_NOTE = (
    "Requests per second that so many replicas sustain together, with 90 % intervals: a dot where also the low end is "
    "enough, a cross where it is not."
)


def page_of(need: Need, measured: Mapping[str, Any]) -> Page:
    """The page of a need; `measured` is the document of the search for what one replica sustains."""
    wish, model = need.wish, measured["model"]
    asked = f"How many replicas of {model} carry {number(wish.rate)} requests per second under {measured['slo']}"
    asked += f" while {wish.spare} may be away?" if wish.spare else "?"
    if wish.utilization < 1:
        asked += f" Each is given at most {wish.utilization:.0%} of what it sustains."
    about = "requests per second that several numbers of replicas sustain"
    chart = dots(about, list(_dots(need)), Axis("requests per second"), (wish.rate, f"asked, {number(wish.rate)}/s"))
    sections = [
        Section("What they sustain", chart, notes=[_NOTE, f"One replica of {peak_line(measured)}."]),
        Section("How many", table=need.table(), marked=frozenset({str(need.replicas)})),
        Section("Assumed", notes=[f"{each[0].upper()}{each[1:]}." for each in ASSUMED]),
    ]
    verdict = "found" if need.least == need.replicas else "not certain"
    return Page(f"Capacity of {model}", asked, f"{need.answer}.", sections, verdict)


def _dots(need: Need) -> Iterator[Dot]:
    one, wish = need.one, need.wish
    states = {f"{wish.spare} away": wish.spare, "all there": 0} if wish.spare else {"all there": 0}
    for count in need.counts:
        for state, away in states.items():
            each = (count - away) * wish.utilization
            span = each * one.low, each * one.high
            yield Dot(
                f"{count} replica{'s' * (count > 1)}", state, each * one.peak, span, is_met=need.is_enough(count - away)
            )
