"""The report of a search for the highest sustained rate."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from loadtest.analysis.intervals import Percentile
from loadtest.analysis.result import RunResult
from loadtest.report.axes import Axis, interval, number
from loadtest.report.charts import Point, front
from loadtest.report.drawing import Limit
from loadtest.report.page import Page, Section, Table
from loadtest.slo import Objective

_NOTE = (
    "Each point is a trial, an open loop with Poisson arrivals: a dot where it met the objective and the server kept "
    "up, a cross where not. Rates near the peak are decided by chance: the shaded band is the peak's 90 % interval."
)


def page_of(document: Mapping[str, Any], objectives: Sequence[Objective], trials: Sequence[RunResult]) -> Page:
    """A search as a page; `document` is its result as JSON."""
    name, limit = _judged(objectives)
    peak = f"{'at least ' if document['at_least'] else ''}{number(document['peak_rps'])}"
    peak_span = document["low_rps"], document["high_rps"]
    found = f"{peak} requests per second, 90 % interval {interval(*peak_span)}, {len(trials)} trials"
    asked = f"Highest rate of {document['model']} over {document['protocol']} under {document['slo']}"
    axes = Axis("requests per second", zero=False), Axis(name.replace("_", " "), "ms", log=True)
    about = f"{name} of each trial by its rate, with 95 % intervals"
    limits = (document["peak_rps"], f"peak, {peak}/s"), limit
    points = [point for trial in trials for point in _points(trial, name)]
    sections = [
        Section("Trials", front(about, points, axes, limits=limits, shaded=peak_span), notes=(_NOTE,)),
        Section("All trials", table=_table(trials, name)),
    ]
    versions = {"Triton": trials[-1].server.version} if trials else {}
    title = f"Peak of {document['model']}"
    return Page(title, asked, found, sections, _verdict(document), document["bound"], versions)


def _verdict(document: Mapping[str, Any]) -> str:
    if document["generator_bound"]:
        return "invalid"
    return "found" if document["narrow"] and document["sustained_rps"] else "not certain"


def _judged(objectives: Sequence[Objective]) -> tuple[str, Limit | None]:
    """The percentile that is drawn, that of the last objective which limits one, and its limit."""
    limits = [one for one in objectives if one.below and one.figure.endswith("_ms") and "max" not in one.figure]
    if not limits:
        return "p99", None
    return limits[-1].figure.removesuffix("_ms"), (limits[-1].limit, f"objective, {limits[-1].limit:g} ms")


def _percentile(trial: RunResult, name: str) -> Percentile:
    return (trial.figures.percentiles | (trial.tokens.percentiles if trial.tokens else {}))[name]


def _points(trial: RunResult, name: str) -> Iterator[Point]:
    estimate, rate = _percentile(trial, name), trial.load.rate or 0.0
    series = "sustained" if trial.is_sustained else "not sustained"
    if estimate.value is not None:
        label, span = f"{number(rate)}/s, {series}", (estimate.low, estimate.high)
        details = {"requests": number(trial.figures.requests), "answered": f"{number(trial.figures.rps)}/s"}
        yield Point(label, series, rate, estimate.value, y_span=span, is_met=trial.is_sustained, details=details)


def _table(trials: Sequence[RunResult], name: str) -> Table:
    header = ["trial", "rate", "answered", "requests", "errors", f"{name.replace('_', ' ')} ms", "95 % interval"]
    rows = [[*header, "sustained"]]
    for place, trial in enumerate(trials, 1):
        estimate, figures = _percentile(trial, name), trial.figures
        cells = [number(trial.load.rate), number(figures.rps), number(figures.requests), number(figures.errors)]
        cells += [number(estimate.value), interval(estimate.low, estimate.high)]
        rows.append([str(place), *cells, "yes" if trial.is_sustained else "no"])
    return rows
