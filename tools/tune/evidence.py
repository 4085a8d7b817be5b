"""What a tuning writes: a page with all trials, and `configs/<hardware>.pbtxt` with the evidence as a comment."""

import textwrap
from collections.abc import Iterator
from pathlib import Path

from google.protobuf import text_format

from clients.output import write_atomically
from loadtest.report.axes import Axis
from loadtest.report.charts import Dot, Point, dots, front
from loadtest.report.drawing import Chart
from loadtest.report.page import Page, Section, write
from tools.repository import config_path
from tools.tune.candidates import apply_candidate
from tools.tune.goal import Goal
from tools.tune.outcome import Outcome, Row
from tools.tune.record import Record
from tools.tune.serving import base_config
from tools.tune.trials import Trial

_WIDTH = 116
_NOTE = (
    "Each point is a trial: an open loop with Poisson arrivals, whose latencies count from when a request was due; a "
    "dot where it met the objectives and the server kept up, a cross where not. A single trial may be lucky: which "
    "choice is best is decided by all trials of each."
)
_LINE = (
    "The line joins the choices that no other one beats in both rate and latency, each at the highest rate that it "
    "sustained."
)
_ASKED = {"throughput": "the highest rate", "latency": "the lowest latency", "cost": "the least processor time"}
_TOGETHER = "The rate is the total of all models, the latency that of the slowest one."


def write_configs(outcome: Outcome, best: Row, hardware: str, gpu: bool, repository: Path) -> tuple[str, ...]:
    """Write each model's best settings beside its committed config, which stays as it is; returns the paths.

    `hardware` is the name of the configs, `gpu` where the instances are.

    Raises:
        OSError: the repository cannot be written.
    """
    paths = []
    for place, conditions in enumerate(outcome.conditions):
        path = config_path(conditions.model, hardware, repository)
        path.parent.mkdir(exist_ok=True)
        config = apply_candidate(best.plan[place], base_config(conditions.model, repository, gpu))
        write_atomically(path, f"{_comment(outcome, best, place)}\n{text_format.MessageToString(config)}")
        paths.append(str(path))
    return tuple(paths)


def _comment(outcome: Outcome, best: Row, place: int) -> str:
    conditions, committed = outcome.conditions[place], outcome.committed
    rate = f", at {conditions.rate:g} requests per second" if conditions.rate else ""
    if others := ", ".join(name for name in outcome.shares if name != conditions.model):
        rate += f"; {outcome.shares[conditions.model]:.0%} of the requests here, the others to {others}"
    lines = [
        f"Tuned by tools.tune for {conditions.machine}. config.pbtxt is the contract; this file does not follow its "
        "changes: tune again, or remove it.",
        f"Objective: {conditions.objective} under {conditions.slo}, {conditions.protocol}, Poisson arrivals, "
        f"client batch {conditions.client_batch}{rate}.",
        f"Measured: {_measured(best)}; as committed: {_measured(committed)}.",
        f"Choices measured: {len(outcome.measured)}, in {outcome.seconds:.0f} s. "
        f"Model version {conditions.version}, Triton {conditions.triton}.",
    ]
    if best.plan[place].max_batch_size < committed.plan[place].max_batch_size:
        lines.append("Requests of more inferences than max_batch_size are refused, which config.pbtxt would accept.")
    return "\n".join(f"# {line}" for text in lines for line in textwrap.wrap(text, _WIDTH))


def _measured(row: Row) -> str:
    span = "" if row.interval == "-" else f"90 % interval {row.interval}, "
    return f"{row.shown} ({span}trials: {row.trials})"


def write_page(outcome: Outcome, record: Record, goal: Goal, folder: Path) -> str:
    """Write the page with the charts; returns its path."""
    conditions, models = outcome.conditions[0], list(outcome.shares)
    title, notes = f"{', '.join(models)}: tuned", [_NOTE] if goal.rate else [_NOTE, _LINE]
    at = f" at {goal.rate:g} requests per second" if goal.rate else ""
    asked = f"Settings for {_ASKED[goal.name]} under {conditions.slo}{at}, {conditions.protocol}"
    if outcome.is_joint:
        title, notes = f"{title} together", [*notes, _TOGETHER]
        mix = ", ".join(f"{model} {share:.0%}" for model, share in outcome.shares.items())
        asked = f"{asked}; {mix} of the requests"
    sections = [Section("Trials", _trials(outcome, record, goal), notes=notes), *_peaks(outcome)]
    marked = frozenset({outcome.best.label} if outcome.best else ())
    sections.append(Section("Choices", table=outcome.table(), marked=marked))
    asked, found = f"{asked}; {conditions.machine}", _found(outcome)
    page = Page(title, asked, found, sections, versions={"Triton": conditions.triton})
    return str(write(page, folder / f"{'-'.join(models)}.html"))


def _found(outcome: Outcome) -> str:
    best = outcome.best
    if best is None:
        return outcome.summary
    gain = f", {outcome.gain:.2f} times as good as committed" if outcome.gain else "; as committed"
    return f"Best: {best.label}: {_measured(best)}{gain}: {_measured(outcome.committed)}"


def _trials(outcome: Outcome, record: Record, goal: Goal) -> Chart:
    points, joined = list[Point](), list[str]()
    for contender, row in zip(record.contenders, outcome.measured, strict=True):
        own = [
            point for trial in contender.search.trials if trial.valid for point in _points(trial, row, outcome, goal)
        ]
        highest = max((point for point in own if point.is_met), key=lambda point: point.x, default=None)
        joined += [highest.name] if highest and row.on_front else []
        points += own
    points.sort(key=lambda point: _SERIES.index(point.series))
    about = f"{goal.percentile} of each trial by its requests per second, and the front of the choices"
    limit = goal.limit_ms, f"objective, {goal.limit_ms:g} ms"
    if goal.rate:
        at_rate = [Dot(each.name, each.series, each.y, is_met=each.is_met) for each in points]
        return dots(about, at_rate, Axis(goal.percentile, "ms", log=True), limit)
    axes = Axis("requests per second", zero=False), Axis(goal.percentile, "ms", log=True)
    return front(about, points, axes, joined, (None, limit))


_SERIES = ("best", "as committed", "others")


def _series(row: Row, outcome: Outcome) -> str:
    best = outcome.best and row.plan == outcome.best.plan
    return _SERIES[0] if best else _SERIES[1] if row.plan == outcome.committed.plan else _SERIES[2]


def _points(trial: Trial, row: Row, outcome: Outcome, goal: Goal) -> Iterator[Point]:
    if latency := trial.latency_ms[goal.percentile]:
        details = {"trial": trial.verdict}
        if trial.mean_batch:
            details["mean batch"] = f"{trial.mean_batch:g}"
        name = row.label if goal.rate else f"{row.label} at {trial.rate:,.0f}/s"
        yield Point(name, _series(row, outcome), trial.rate, latency, is_met=trial.is_sustained, details=details)


def _peaks(outcome: Outcome) -> Iterator[Section]:
    """The peaks with their intervals, the highest first, where peaks were searched."""
    rows = [row for row in outcome.measured if row.figure is not None and row.low is not None]
    rows.sort(key=lambda row: -(row.figure or 0.0))
    given = [Dot(row.label, _series(row, outcome), row.figure, (row.low, row.high)) for row in rows]
    if given:
        axis = Axis("requests per second", zero=False)
        yield Section("Peaks, with 90 % intervals", dots("the highest sustained rate of each choice", given, axis))
