"""The page of a family: its members by quality and speed, and all figures of each."""

from collections.abc import Sequence

from loadtest.report.axes import Axis
from loadtest.report.charts import Point, front
from loadtest.report.drawing import Chart
from loadtest.report.page import Page, Section, Table
from tools.check.releases import EMBEDDED, SERVERS
from tools.compare import language
from tools.compare.language import LanguageMember
from tools.compare.measurement import Member

_NOTES = (
    "Bold: the Pareto front, models that no other one equals or beats in both accuracy and throughput. vs root: "
    "percentage points; p: how likely so large a difference is by chance (McNemar's exact test on the same images). "
    "Memory: what loading the model adds to the embedded server. Speed: through the server, medians of "
    "interleaved rounds."
)
_SERIES = {True: "on the front", False: "others"}


def family_page(members: Sequence[Member], best: Sequence[str], asked: str) -> Page:
    """Classifiers, the root first; `best` are the names of the front, the most accurate first."""
    points = [
        Point(
            *(one.name, _SERIES[one.name in best], one.rate, one.accuracy),
            x_span=(one.rate_low, one.rate_high),
            y_span=(one.low, one.high),
            details={"p50": f"{one.latency_ms:.2f} ms", "file": f"{one.file_bytes / 1000:,.0f} KB"},
        )
        for one in members
    ]
    axes = Axis("inferences per second", zero=False), Axis("accuracy", zero=False, spec=".2%")
    note = (
        "Accuracy of the test set with its 95 % interval; inferences per second through the server, the median of all "
        "rounds with their range."
    )
    drawn = Section("Accuracy and throughput", _front(points, axes, best), notes=[note])
    named = {one.name: one for one in members}
    root, finest, fastest = members[0], named[best[0]], named[best[-1]]
    against = "" if fastest is root else f" ({100 * fastest.difference:+.2f} points, p = {fastest.p_value:.2g})"
    found = (
        f"Fastest: {_speed(fastest.name, fastest.rate, root.name, root.rate, 'inferences per second')}, accuracy "
        f"{fastest.accuracy:.2%}{against}. Most accurate: {finest.name}, {finest.accuracy:.2%}."
    )
    return _page(root.name, asked, found, drawn, table(members), best, _NOTES)


def language_page(members: Sequence[LanguageMember], best: Sequence[str], asked: str, streams: int) -> Page:
    """Language models, the root first; `best` are the names of the front, the lowest perplexity first."""
    points = [
        Point(one.name, _SERIES[one.name in best], one.rate, one.perplexity, details={"weights": one.precision})
        for one in members
    ]
    axes = Axis("tokens per second", zero=False), Axis("perplexity", zero=False)
    note = f"Perplexity, lower is better, and tokens per second of {streams} streams."
    drawn = Section("Perplexity and throughput", _front(points, axes, best), notes=[note])
    named = {one.name: one for one in members}
    root, finest, fastest = members[0], named[best[0]], named[best[-1]]
    found = (
        f"Fastest: {_speed(fastest.name, fastest.rate, root.name, root.rate, 'tokens per second')}, perplexity "
        f"{fastest.perplexity:.2f}. Lowest perplexity: {finest.name}, {finest.perplexity:.2f}."
    )
    return _page(root.name, asked, found, drawn, language.table(members), best, language.NOTES)


def table(members: Sequence[Member]) -> Table:
    """The classifiers as rows under a header."""
    root = members[0]
    rows = [
        {
            "model": member.name,
            "accuracy": f"{member.accuracy:.2%}",
            "95 % interval": f"{member.low:.1%} to {member.high:.1%}",
            "vs root": "" if member is root else f"{100 * member.difference:+.2f}",
            "p": "" if member is root else f"{member.p_value:.2g}",
            "file KB": f"{member.file_bytes / 1000:,.0f}",
            "parameters": f"{member.parameters:,}",
            "memory MB": f"{member.memory_bytes / 1e6:,.1f}",
            "p50 ms": f"{member.latency_ms:.2f}",
            "infer/s": f"{member.rate:,.0f}",
            "÷ root": f"{member.rate / root.rate:.2f}",
        }
        for member in members
    ]
    return [[*rows[0]], *([*row.values()] for row in rows)]


def _front(points: Sequence[Point], axes: tuple[Axis, Axis], best: Sequence[str]) -> Chart:
    about = f"{axes[1].title} of each member by its {axes[0].title}"
    return front(about, sorted(points, key=lambda point: point.name not in best), axes, best, is_named=True)


def _speed(name: str, rate: float, root: str, of_root: float, unit: str) -> str:
    return f"{name}, {rate:,.0f} {unit}" + ("" if name == root else f" ({rate / of_root:.2f} times those of {root})")


def _page(root: str, asked: str, found: str, drawn: Section, rows: Table, best: Sequence[str], notes: str) -> Page:
    sections = [drawn, Section("Members", table=rows, marked=frozenset(best), notes=[notes])]
    return Page(f"{root} and its variants", asked, found, sections, versions={"Triton": f"2.{SERVERS[EMBEDDED]}"})
