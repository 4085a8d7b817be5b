"""What a tuning writes: a page with all trials, and `configs/<hardware>.pbtxt` with the evidence as a comment."""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf import text_format

from clients.output import write_atomically
from loadtest.report import page
from tools.repository import config_path
from tools.tune.candidates import apply_candidate
from tools.tune.goal import Goal
from tools.tune.outcome import Outcome, Row, rates_and_latencies
from tools.tune.record import Record
from tools.tune.serving import base_config

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH = 116
_NOTES = (
    "Each point of the plot is a trial: an open loop with Poisson arrivals, whose latencies count from when a request "
    "was due; a dot where it met the objectives, a cross where it did not."
)
_TOGETHER = " The rate is the total of all models, the latency that of the slowest one."


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

    def span(row: Row) -> str:
        return (f"90 % interval {row.interval}, " if row.low is not None else "") + f"trials: {row.trials}"

    lines = [
        f"Tuned by tools.tune for {conditions.machine}. config.pbtxt is the contract; this file does not follow its "
        "changes: tune again, or remove it.",
        f"Objective: {conditions.objective} under {conditions.slo}, {conditions.protocol}, Poisson arrivals, "
        f"client batch {conditions.client_batch}{rate}.",
        f"Measured: {best.shown} ({span(best)}); as committed: {committed.shown} ({span(committed)}).",
        f"Choices measured: {len(outcome.measured)}, in {outcome.seconds:.0f} s. "
        f"Model version {conditions.version}, Triton {conditions.triton}.",
    ]
    if best.plan[place].max_batch_size < committed.plan[place].max_batch_size:
        lines.append("Requests of more inferences than max_batch_size are refused, which config.pbtxt would accept.")
    return "\n".join(f"# {line}" for text in lines for line in textwrap.wrap(text, _WIDTH))


def write_page(outcome: Outcome, record: Record, goal: Goal, folder: Path) -> str:
    """Write the page with the plot; returns its path."""
    conditions, models = outcome.conditions[0], list(outcome.shares)
    title, notes = f"{', '.join(models)}: tuned", _NOTES
    setting = f"{conditions.machine}; {conditions.objective} under {conditions.slo}, {conditions.protocol}"
    if outcome.is_joint:
        title, notes = f"{title} together", _NOTES + _TOGETHER
        mix = ", ".join(f"{model} {share:.0%}" for model, share in outcome.shares.items())
        setting = f"{setting}; {mix} of the requests"
    plot, marked = _plot(outcome, record, goal), frozenset({outcome.best.label} if outcome.best else ())
    return str(page.write(folder / f"{'-'.join(models)}.html", title, setting, plot, outcome.table(), notes, marked))


def _plot(outcome: Outcome, record: Record, goal: Goal) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    axes: Any = figure.subplots()

    def scatter(points: list[tuple[float, float]], size: int, **style: Any) -> None:
        axes.scatter([rate for rate, _ in points], [latency for _, latency in points], size, **style)

    for number, (contender, row) in enumerate(zip(record.contenders, outcome.measured, strict=True)):
        trials = [trial for trial in contender.search.trials if trial.valid]
        for sustained, marker, label in ((True, "o", row.label), (False, "x", None)):
            points = rates_and_latencies([trial for trial in trials if trial.is_sustained is sustained], goal)
            scatter(points, 36, color=f"C{number % 10}", marker=marker, label=label)
    axes.axhline(goal.limit_ms, color="0.4", linestyle="--", linewidth=1)
    axes.set(xlabel="requests per second", ylabel=f"{goal.percentile}, ms", yscale="log")
    axes.legend(fontsize=7)
    axes.grid(alpha=0.3)
    return figure
