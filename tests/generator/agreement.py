"""How two load generators agree: medians over rounds, ratios within rounds and their spread, as a table and a plot."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.generator.generators import Seen

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OURS, THEIRS = "loadtest.run", "perf_analyzer"
FIGURES = ("rate", "p50_ms", "p99_ms", "cpu_us", "served")
HEADER = (
    "protocol",
    "callers",
    "generator",
    "req/s",
    "p50 ms",
    "p99 ms",
    "generator µs/req",
    "server req/core-s",
    "p50 ÷ theirs",
    "p99 ÷ theirs",
)
NOTES = (
    "Medians over rounds. ÷ theirs: loadtest.run's latency by perf_analyzer's of the same round, the median and, in "
    "parentheses, the least and the largest. Generator µs/req: its processor time. Server req/core-s: requests per "
    "second of the server's processor time. On few cores the cheaper generator leaves more to the server and sees "
    "lower latencies; agreement shows where the server's own work dominates. -: a figure that the generator does not "
    "give, because it was the bottleneck or had too few requests."
)
Round = tuple[Seen, Seen]  # ours, theirs


@dataclass(frozen=True)
class Ratio:
    """Ours by theirs: the median over the rounds that have both, and the least and the largest of them."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One protocol and concurrency: medians of both, ratios (None where no round has both figures).

    Attributes:
        seconds: of the window in which each was measured.
        invalid: rounds in which `loadtest.run` was the bottleneck.
    """

    protocol: str
    concurrency: int
    seconds: float
    rounds: int
    invalid: int
    ours: Seen
    theirs: Seen
    p50: Ratio | None
    p99: Ratio | None


def row(protocol: str, concurrency: int, seconds: float, rounds: Sequence[Round]) -> Row:
    """Put the rounds of one protocol and concurrency together."""
    mine, others = [one for one, _ in rounds], [one for _, one in rounds]
    return Row(
        protocol,
        concurrency,
        seconds,
        len(rounds),
        sum(one.rate is None for one in mine),
        middle(mine),
        middle(others),
        ratio((one.p50_ms, other.p50_ms) for one, other in rounds),
        ratio((one.p99_ms, other.p99_ms) for one, other in rounds),
    )


def middle(seen: Sequence[Seen]) -> Seen:
    """The median of each figure over the rounds that have it; None where none has."""
    figures = {name: [value for one in seen if (value := getattr(one, name)) is not None] for name in FIGURES}
    return Seen(**{name: median(values) if values else None for name, values in figures.items()})


def ratio(pairs: Iterable[tuple[float | None, float | None]]) -> Ratio | None:
    """Ours by theirs over rounds, of those that have both."""
    found = [one / other for one, other in pairs if one is not None and other]
    return Ratio(median(found), min(found), max(found)) if found else None


def table(rows: Sequence[Row]) -> list[list[str]]:
    """A header, and two rows for each protocol and concurrency: ours with the ratios, theirs."""
    lines = [list(HEADER)]
    for one in rows:
        beginning = [one.protocol, str(one.concurrency)]
        lines.append([*beginning, OURS, *cells(one.ours), spread(one.p50), spread(one.p99)])
        lines.append([*beginning, THEIRS, *cells(one.theirs), "", ""])
    return lines


def cells(seen: Seen) -> list[str]:
    """One generator's figures for people."""
    values = (seen.rate, seen.p50_ms, seen.p99_ms, seen.cpu_us, seen.served)
    formats = (",.0f", ",.2f", ",.2f", ",.0f", ",.0f")
    return ["-" if value is None else format(value, how) for value, how in zip(values, formats, strict=True)]


def spread(found: Ratio | None) -> str:
    """A ratio for people."""
    return "-" if found is None else f"{found.median:.2f} ({found.low:.2f} to {found.high:.2f})"


def warnings(rows: Sequence[Row]) -> list[str]:
    """What must be said beside the table."""
    return [
        f"{one.protocol}, {one.concurrency} callers: in {one.invalid} of {one.rounds} rounds {OURS} was the bottleneck "
        "and gave no figures"
        for one in rows
        if one.invalid
    ]


def document(rows: Sequence[Row]) -> dict[str, Any]:
    """One model's figures for scripts: by protocol and concurrency."""
    found: dict[str, Any] = {}
    for one in rows:
        figures = {name: value for name, value in asdict(one).items() if name not in ("protocol", "concurrency")}
        found.setdefault(one.protocol, {})[str(one.concurrency)] = rounded(figures)
    return found


def rounded(value: Any) -> Any:
    """Numbers to three decimals, through nested dictionaries."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return round(value, 3) if isinstance(value, float) else value


def plot(rows: Sequence[Row]) -> "Figure":
    """The ratios of p50 and p99 with their spread, for each protocol and concurrency; 1 is agreement."""
    # Not pyplot, which keeps every figure and looks for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots()
    for shift, name in ((-0.1, "p50"), (0.1, "p99")):
        found = [(place + shift, getattr(one, name)) for place, one in enumerate(rows) if getattr(one, name)]
        middles = [one.median for _, one in found]
        errors = [[one.median - one.low for _, one in found], [one.high - one.median for _, one in found]]
        axes.errorbar([place for place, _ in found], middles, yerr=errors, fmt="o", capsize=4, label=name)
    axes.axhline(1, color="#8a94a3", linewidth=1)
    axes.set_xticks(range(len(rows)), [f"{one.protocol} {one.concurrency}" for one in rows])
    axes.set(xlabel="protocol and callers", ylabel=f"{OURS} ÷ {THEIRS}")
    axes.legend()
    axes.grid(axis="y", alpha=0.3)
    return figure
