"""The outcome of a tuning: the best choice beside the committed one, as JSON, a table and a page with a plot."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadtest.report import page
from tools.tune.candidates import Candidate, Plan
from tools.tune.goal import Goal
from tools.tune.prediction import Prediction
from tools.tune.record import Contender, Record
from tools.tune.trials import Document, Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NOTES = (
    "Each point of the plot is a trial: an open loop with Poisson arrivals, whose latencies count from when a request "
    "was due; a dot where it met the objectives, a cross where it did not. "
)
_ALONE = (
    "Gray: the twin's prediction for all candidates at their best rate. Predicted and measured are the goal's figure; "
    "error is predicted / measured - 1."
)
_TOGETHER = "The rate is the total of all models, the latency that of the slowest one."


@dataclass(frozen=True)
class Conditions:
    """Under which a model was tuned; a record made under other conditions is not resumed."""

    model: str
    slo: str
    objective: str
    rate: float | None
    protocol: str
    client_batch: int
    trial: float  # shortest, in seconds
    keep_max_batch_size: bool
    url: str | None
    version: int | None  # of the model
    triton: str | None  # version of the server
    machine: str
    base: Candidate  # the committed settings


@dataclass(frozen=True)
class Row:
    """A measured choice.

    Attributes:
        figure: what the goal optimizes; None where the objectives were not met.
        low, high: the 90 % interval of the peak; None where latency or cost count.
        error: the relative error of the twin's prediction.
        on_front: whether no other choice sustains a higher rate at a lower latency.
    """

    plan: Plan
    label: str
    figure: float | None
    shown: str
    low: float | None
    high: float | None
    predicted: float | None
    predicted_shown: str
    error: float | None
    trials: int
    valid_trials: int
    on_front: bool = False

    def document(self) -> Document:
        """Return the row as JSON."""
        document = asdict(self)
        plan = document.pop("plan")
        return document | ({"candidate": plan[0]} if len(plan) == 1 else {"plan": plan, "peak_rps": self.figure})

    @property
    def interval(self) -> str:
        """The interval in words; "-" where there is none."""
        return "-" if self.low is None or self.high is None else f"{self.low:,.0f} to {self.high:,.0f}"


@dataclass(frozen=True)
class Outcome:
    """What a tuning found and wrote.

    Attributes:
        conditions: of each model.
        shares: of the requests, by model.
        best: None where nothing met the objectives.
        gain: how many times as good the best is as the committed choice.
        simulated: number of simulated candidates.
    """

    conditions: tuple[Conditions, ...]
    shares: dict[str, float]
    best: Row | None
    committed: Row
    gain: float | None
    measured: tuple[Row, ...]
    simulated: int
    seconds: float
    page: str = ""
    configs: tuple[str, ...] = ()

    @property
    def models(self) -> list[str]:
        """The names of the models."""
        return list(self.shares)

    @property
    def is_joint(self) -> bool:
        """Whether several models share the server."""
        return len(self.shares) > 1

    @property
    def summary(self) -> str:
        """The outcome in one line."""
        prefix = "" if self.is_joint else f"{self.models[0]}: "
        if self.best is None:
            return f"{prefix}no choice meets {self.conditions[0].slo} on this machine"
        gain = f", {self.gain:.2f} times as good as committed" if self.gain else ""
        return f"{prefix}{self.best.label}: {self.best.shown}{gain}, after {self.seconds:.0f} s"

    def document(self) -> Document:
        """Return the outcome as JSON."""
        document: Document = {
            "best": self.best.document() if self.best else None,
            "committed": self.committed.document(),
            "gain": self.gain,
            "measured": [row.document() for row in self.measured],
            "simulated": self.simulated,
            "seconds": round(self.seconds, 1),
            "page": self.page,
        }
        conditions = [{name: value for name, value in asdict(own).items() if name != "base"} for own in self.conditions]
        if not self.is_joint:
            return conditions[0] | document | ({"config": self.configs[0]} if self.configs else {})
        head = {name: conditions[0][name] for name in ("slo", "objective")}
        joint = {"shares": self.shares, "models": conditions} | ({"configs": self.configs} if self.configs else {})
        return head | document | joint


def summarize(
    record: Record, goal: Goal, best: Contender | None, conditions: Sequence[Conditions], shares: dict[str, float]
) -> Outcome:
    """Compile the outcome from a record; `best` is the contender that won."""
    rows = {contender.plan: _row(contender, goal, list(shares)) for contender in record.contenders}
    points = {contender.plan: _highest_point(contender, goal) for contender in record.contenders}
    for plan, point in points.items():
        is_beaten = any(other[0] >= point[0] and other[1] <= point[1] and other != point for other in points.values())
        rows[plan] = replace(rows[plan], on_front=point[0] > 0 and not is_beaten)
    base = rows[tuple(own.base for own in conditions)]
    winner = rows[best.plan] if best and best.figure(goal) is not None else None
    gain = goal.gain(winner.figure, base.figure) if winner and winner.figure and base.figure else None
    return Outcome(tuple(conditions), shares, winner, base, gain, tuple(rows.values()), 0, record.seconds)


def _row(contender: Contender, goal: Goal, models: list[str]) -> Row:
    figure, predicted, trials = contender.figure(goal), contender.predicted, contender.search.trials
    low, high = contender.search.interval() if goal.rate is None else (None, None)
    return Row(
        plan=contender.plan,
        label=contender.label(models),
        figure=figure,
        shown="misses the objectives" if figure is None else goal.format(figure) + " in total" * (len(models) > 1),
        low=low,
        high=high,
        predicted=predicted,
        predicted_shown="none" if predicted is None else goal.format(predicted),
        error=predicted / figure - 1 if predicted and figure else None,
        trials=len(trials),
        valid_trials=sum(trial.valid for trial in trials),
    )


def _highest_point(contender: Contender, goal: Goal) -> tuple[float, float]:
    sustained = [trial for trial in contender.search.trials if trial.is_sustained]
    return max(_points(sustained, goal), default=(0.0, float("inf")))


def _points(trials: Sequence[Trial], goal: Goal) -> list[tuple[float, float]]:
    """Rate and latency in milliseconds of each trial that has both."""
    points = [(trial.rate, trial.latency_ms[goal.percentile]) for trial in trials]
    return [(rate, latency) for rate, latency in points if rate is not None and latency is not None]


def table(outcome: Outcome) -> list[list[str]]:
    """A header and a row for each measured choice."""
    rows = [["choice", "predicted", "measured", "90 % interval", "error", "trials", "front"]]
    for row in outcome.measured:
        error = "-" if row.error is None else f"{row.error:+.0%}"
        front = "yes" if row.on_front else ""
        rows.append([row.label, row.predicted_shown, row.shown, row.interval, error, str(row.trials), front])
    return rows


def write_page(
    outcome: Outcome, record: Record, goal: Goal, folder: Path, predictions: Sequence[Prediction] = ()
) -> str:
    """Write the page with the plot; returns its path."""
    conditions = outcome.conditions[0]
    mix = "; " + ", ".join(f"{model} {share:.0%}" for model, share in outcome.shares.items()) + " of the requests"
    setting = f"{conditions.objective} under {conditions.slo}, {conditions.protocol}{mix if outcome.is_joint else ''}"
    path = page.write(
        folder / f"{'-'.join(outcome.models)}.html",
        f"{', '.join(outcome.models)}: tuned{' together' if outcome.is_joint else ''}",
        f"{conditions.machine}; {setting}",
        _plot(outcome, record, goal, predictions),
        table(outcome),
        _NOTES + (_TOGETHER if outcome.is_joint else _ALONE),
        frozenset({outcome.best.label} if outcome.best else ()),
    )
    return str(path)


def _plot(outcome: Outcome, record: Record, goal: Goal, predictions: Sequence[Prediction]) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    axes: Any = figure.subplots()

    def scatter(points: list[tuple[float, float]], size: int, **style: Any) -> None:
        axes.scatter([rate for rate, _ in points], [latency for _, latency in points], size, **style)

    expected = [(prediction.rate, prediction.latency_ms) for prediction in predictions]
    shown = [point for point in expected if point[1] < 10 * goal.limit_ms]
    scatter(shown, 6, color="0.8", label="twin, all candidates" if shown else None)
    for number, (contender, row) in enumerate(zip(record.contenders, outcome.measured, strict=True)):
        trials = [trial for trial in contender.search.trials if trial.valid]
        for sustained, marker, label in ((True, "o", row.label), (False, "x", None)):
            points = _points([trial for trial in trials if trial.is_sustained is sustained], goal)
            scatter(points, 36, color=f"C{number % 10}", marker=marker, label=label)
    axes.axhline(goal.limit_ms, color="0.4", linestyle="--", linewidth=1)
    axes.set(xlabel="requests per second", ylabel=f"{goal.percentile}, ms", yscale="log")
    axes.legend(fontsize=7)
    axes.grid(alpha=0.3)
    return figure
