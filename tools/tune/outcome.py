"""The outcome of a tuning: the best choice beside the committed one, as JSON and as a table."""

from dataclasses import asdict, dataclass

from tools.tune.candidates import Candidate, Plan
from tools.tune.goal import Goal
from tools.tune.record import Contender, Record
from tools.tune.trials import Document


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
    """A measured choice."""

    plan: Plan
    label: str
    figure: float | None  # what the goal optimizes; None where the objectives were not met
    shown: str
    low: float | None  # to `high`: the 90 % interval of the peak; None where latency or cost count
    high: float | None
    trials: int
    valid_trials: int
    on_front: bool  # no other choice sustains a higher rate at a lower latency

    def document(self) -> Document:
        """Return the row as JSON."""
        document = asdict(self)
        plan = document.pop("plan")
        return document | ({"candidate": plan[0]} if len(plan) == 1 else {"plan": plan, "peak_rps": self.figure})

    @property
    def interval(self) -> str:
        """The interval in words; "-" where there is none, or the objectives were not met."""
        is_known = self.figure is not None and self.low is not None and self.high is not None
        return f"{self.low:,.0f} to {self.high:,.0f}" if is_known else "-"


@dataclass(frozen=True)
class Outcome:
    """What a tuning found and wrote."""

    conditions: list[Conditions]  # of each model
    shares: dict[str, float]  # of the requests, by model
    best: Row | None  # None where nothing met the objectives
    committed: Row
    gain: float | None  # how many times as good the best is as the committed choice
    measured: list[Row]
    seconds: float
    page: str = ""
    configs: tuple[str, ...] = ()

    @property
    def is_joint(self) -> bool:
        """Whether several models share the server."""
        return len(self.shares) > 1

    @property
    def summary(self) -> str:
        """The outcome in one line."""
        prefix = "" if self.is_joint else f"{self.conditions[0].model}: "
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
            "seconds": round(self.seconds, 1),
            "page": self.page,
        }
        conditions = [{name: value for name, value in asdict(own).items() if name != "base"} for own in self.conditions]
        if not self.is_joint:
            return conditions[0] | document | ({"config": self.configs[0]} if self.configs else {})
        head = {name: conditions[0][name] for name in ("slo", "objective")}
        joint = {"shares": self.shares, "models": conditions} | ({"configs": self.configs} if self.configs else {})
        return head | document | joint

    def table(self) -> list[list[str]]:
        """A header and a row for each measured choice, with intervals and the front where peaks were searched."""
        is_searched = self.conditions[0].rate is None
        rows = [["choice", "measured", "trials", *["90 % interval", "front"] * is_searched]]
        for row in self.measured:
            found = [row.interval, "yes" if row.on_front else ""] * is_searched
            rows.append([row.label, row.shown, str(row.trials), *found])
        return rows


def summarize(
    record: Record,
    goal: Goal,
    best: Contender | None,
    conditions: list[Conditions],
    shares: dict[str, float],
) -> Outcome:
    """Compile the outcome from a record; `best` is the contender that won."""
    highest = {}
    for contender in record.contenders:
        sustained = [trial for trial in contender.search.trials if trial.is_sustained]
        points = [(trial.rate, trial.latency_ms[goal.percentile] or float("inf")) for trial in sustained]
        highest[contender.plan] = max(points, default=(0.0, float("inf")))
    rows = {}
    for contender in record.contenders:
        rate, latency = point = highest[contender.plan]
        is_beaten = any(other[0] >= rate and other[1] <= latency and other != point for other in highest.values())
        on_front = goal.rate is None and rate > 0 and not is_beaten
        rows[contender.plan] = _row(contender, goal, list(shares), on_front)
    base = rows[tuple(own.base for own in conditions)]
    winner = rows[best.plan] if best and best.figure(goal) is not None else None
    gain = goal.gain(winner.figure, base.figure) if winner and winner.figure and base.figure else None
    return Outcome(conditions, shares, winner, base, gain, list(rows.values()), record.seconds)


def _row(contender: Contender, goal: Goal, models: list[str], on_front: bool) -> Row:
    figure, trials = contender.figure(goal), contender.search.trials
    low, high = contender.search.interval() if goal.rate is None else (None, None)
    return Row(
        plan=contender.plan,
        label=contender.label(models),
        figure=figure,
        shown="misses the objectives" if figure is None else goal.format(figure) + " in total" * (len(models) > 1),
        low=low,
        high=high,
        trials=len(trials),
        valid_trials=sum(trial.valid for trial in trials),
        on_front=on_front,
    )
