"""The outcome of a tuning as a plain document, and as a page with the throughput-latency front."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadtest.report import page
from tools.tune.candidates import Candidate
from tools.tune.goal import Goal
from tools.tune.prediction import Prediction
from tools.tune.race import best_of
from tools.tune.record import Measured, Record, figure
from tools.tune.trials import Document, held

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTES = (
    "Each point of the plot is a trial: an open loop with Poisson arrivals whose latencies count from when a request "
    "was due; filled where it kept to the objective. Grey: what the twin says of all choices at their best rate. "
    "Predicted and measured are the goal's figure; error is predicted / measured - 1."
)


def row(one: Measured, goal: Goal, front: list[Candidate]) -> Document:
    """A measured choice."""
    value = figure(one, goal)
    low, high = one.quest.interval() if goal.rate is None else (None, None)
    return {
        "candidate": one.candidate.document(),
        "label": one.candidate.label(),
        "figure": value,
        "shown": "not within the objective" if value is None else goal.shown(value),
        "low": low,
        "high": high,
        "predicted": one.predicted,
        "predicted_shown": "none" if one.predicted is None else goal.shown(one.predicted),
        "error": one.predicted / value - 1 if one.predicted and value else None,
        "trials": len(one.quest.trials),
        "valid_trials": sum(bool(trial["valid"]) for trial in one.quest.trials),
        "on_front": one.candidate in front,
    }


def outcome(record: Record, goal: Goal, base: Candidate, about: dict[str, Any]) -> Document:
    """Everything that is told: the best, the committed one, all that were measured."""
    front = front_of(record, goal)
    rows = [row(one, goal, front) for one in record.measured]
    committed = next(one for one in rows if one["candidate"] == base.document())
    found = best_of(record, goal)
    best = next((one for one in rows if found and one["candidate"] == found.candidate.document()), None)
    gain = goal.gain(best["figure"], committed["figure"]) if best and committed["figure"] else None
    return {**about, "best": best, "committed": committed, "gain": gain, "measured": rows, "seconds": record.seconds}


def front_of(record: Record, goal: Goal) -> list[Candidate]:
    """The choices that no other one beats in both: a higher rate held, at a lower latency."""
    points = {one.candidate: highest(one, goal) for one in record.measured}
    return [
        choice for choice, point in points.items() if point[0] and not any(beats(o, point) for o in points.values())
    ]


def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether a rate and its latency are both no worse than another's, and not the same."""
    return one[0] >= other[0] and one[1] <= other[1] and one != other


def highest(one: Measured, goal: Goal) -> tuple[float, float]:
    """The highest rate at which a trial kept to the objective, and its latency; (0, infinity) for none."""
    good = [trial for trial in one.quest.trials if held(trial)]
    points = [(float(trial["rate"]), float(trial[f"{goal.percentile}_ms"])) for trial in good]
    return max(points, default=(0.0, float("inf")))


def plot(record: Record, goal: Goal, predictions: list[Prediction]) -> "Figure":
    """Rate against latency."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(11, 5), layout="constrained")
    axes = drawing.subplots()
    shown = [one for one in predictions if one.latency_ms < 10 * goal.limit_ms]
    axes.scatter([one.rate for one in shown], [one.latency_ms for one in shown], 6, "0.8", label="twin, all choices")
    for number, one in enumerate(record.measured):
        trials = [trial for trial in one.quest.trials if trial["valid"] and trial[f"{goal.percentile}_ms"]]
        for good in (True, False):
            part = [trial for trial in trials if held(trial) is good]
            axes.scatter(
                [trial["rate"] for trial in part],
                [trial[f"{goal.percentile}_ms"] for trial in part],
                36,
                color=f"C{number % 10}",
                marker="o" if good else "x",
                label=one.candidate.label() if good else None,
            )
    axes.axhline(goal.limit_ms, color="0.4", linestyle="--", linewidth=1)
    axes.set(xlabel="requests per second", ylabel=f"{goal.percentile}, ms", yscale="log")
    axes.legend(fontsize=7)
    axes.grid(alpha=0.3)
    return drawing


def table(result: Document) -> list[list[str]]:
    """A header and a row for each measured choice."""
    rows = [["choice", "predicted", "measured", "90 % interval", "error", "trials", "front"]]
    for one in result["measured"]:
        interval = "-" if one["low"] is None else f"{one['low']:,.0f} to {one['high']:,.0f}"
        error = "-" if one["error"] is None else f"{one['error']:+.0%}"
        front = "yes" if one["on_front"] else ""
        cells = [one["predicted_shown"], one["shown"], interval, error, str(one["trials"]), front]
        rows.append([one["label"], *cells])
    return rows


def write_page(result: Document, record: Record, goal: Goal, predictions: list[Prediction], folder: Path) -> Path:
    """Write <model>.html; returns its path."""
    setting = f"{result['machine']}; {result['objective']} under {result['slo']}, {result['protocol']}"
    marked = frozenset({result["best"]["label"]} if result["best"] else set())
    drawing = plot(record, goal, predictions)
    path = folder / f"{result['model']}.html"
    return page.write(path, f"{result['model']}: tuned", setting, drawing, table(result), NOTES, marked)
