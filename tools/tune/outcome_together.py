"""The outcome of tuning several models together: a plain document, a table, a page."""

from pathlib import Path
from typing import TYPE_CHECKING

from loadtest.report import page
from tools.tune.candidates import Candidate
from tools.tune.goal import Goal
from tools.tune.together import Search, Tried, label
from tools.tune.trials import Document, held

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTES = (
    "Each point is a trial: open loops of all models at the same time, whose rates add up to the abscissa; the "
    "ordinate is the latency of the model that is worst off. Filled where every model kept to the objective."
)


def documents(search: Search, best: Tried, goal: Goal) -> Document:
    """What is told: the best plan, the committed one, all that were measured; rates are totals of all models."""
    committed = search.tried[0]
    peak, its = best.peak(), committed.peak()
    return {
        "slo": search.about["models"][0]["slo"],
        "objective": goal.name,
        "shares": search.about["shares"],
        "best": None if peak is None else row(search, best),
        "committed": row(search, committed),
        "gain": peak / its if peak and its else None,
        "measured": [row(search, one) for one in search.tried],
        "models": [of_model(search, place, best, committed) for place in range(len(search.members))],
        "simulated": sum(member.simulated for member in search.members),
        "seconds": round(search.spent, 1),
    }


def row(search: Search, one: Tried) -> Document:
    """A measured plan."""
    low, high = one.quest.interval()
    peak = one.peak()
    return {
        "label": label(search.members, one.plan),
        "plan": [choice.document() for choice in one.plan],
        "peak_rps": None if peak is None else round(peak, 1),
        "shown": "not within the objective" if peak is None else f"{peak:,.0f}/s in all",
        "low": round(low, 1),
        "high": round(high, 1),
        "trials": len(one.quest.trials),
        "valid_trials": sum(bool(trial["valid"]) for trial in one.quest.trials),
    }


def of_model(search: Search, place: int, best: Tried, committed: Tried) -> Document:
    """One model's part, as its config's evidence wants it."""
    member = search.members[place]
    others = ", ".join(one.served.model for one in search.members if one is not member)
    company = f", {member.share:.0%} of it here, with {others} on the same server"
    return {
        "model": member.served.model,
        "best": part(search, best, best.plan[place], company),
        "committed": part(search, committed, committed.plan[place], company),
        "measured": [label(search.members, one.plan) for one in search.tried],
    }


def part(search: Search, one: Tried, choice: Candidate, company: str) -> Document:
    """A model's choice within a plan."""
    found = row(search, one)
    return {**found, "candidate": choice.document(), "shown": found["shown"] + company, "predicted_shown": "none"}


def table(result: Document) -> list[list[str]]:
    """A header and a row for each measured plan."""
    rows = [["plan", "measured", "90 % interval", "trials"]]
    for one in result["measured"]:
        rows.append([one["label"], one["shown"], f"{one['low']:,.0f} to {one['high']:,.0f}", str(one["trials"])])
    return rows


def worst_ms(trial: Document, goal: Goal) -> float | None:
    """The latency of the model that is worst off."""
    found = [one[f"{goal.percentile}_ms"] for one in trial["parts"]]
    return None if None in found else max(found)


def plot(search: Search, goal: Goal) -> "Figure":
    """Total rate against the worst latency, a colour for each plan."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(11, 5), layout="constrained")
    axes = drawing.subplots()
    for number, one in enumerate(search.tried):
        trials = [(trial, ms) for trial in one.quest.trials if (ms := worst_ms(trial, goal)) is not None]
        for good in (True, False):
            part = [(trial["rate"], ms) for trial, ms in trials if held(trial) is good]
            name = label(search.members, one.plan) if good else None
            axes.plot(
                *zip(*part, strict=True) if part else ((), ()), "o" if good else "x", color=f"C{number}", label=name
            )
    axes.axhline(goal.limit_ms, color="0.4", linestyle="--", linewidth=1)
    axes.set(xlabel="requests per second, all models", ylabel=f"{goal.percentile} of the worst, ms", yscale="log")
    axes.legend(fontsize=6)
    axes.grid(alpha=0.3)
    return drawing


def write_page(result: Document, search: Search, goal: Goal, folder: Path) -> Path:
    """Write <models>.html; returns its path."""
    names = [member.served.model for member in search.members]
    mixture = ", ".join(f"{name} {share:.0%}" for name, share in result["shares"].items())
    setting = f"{search.about['models'][0]['machine']}; {mixture} of the requests; {result['slo']} for each"
    marked = frozenset({result["best"]["label"]} if result["best"] else set())
    path = folder / f"{'-'.join(names)}.html"
    return page.write(
        path, f"{', '.join(names)}: tuned together", setting, plot(search, goal), table(result), NOTES, marked
    )
