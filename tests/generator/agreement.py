"""How two load generators agree: medians over rounds, ratios within rounds and their spread, as a table and a plot."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.generator.generators import Figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OURS, THEIRS = "loadtest.run", "perf_analyzer"
NOTES = (
    "Medians over rounds. ÷ theirs: loadtest.run's latency divided by perf_analyzer's of the same round, the median "
    "and, in parentheses, the lowest and the highest. Generator µs/req: its processor time. Server req/core-s: "
    "requests per second of the server's processor time. On few cores the cheaper generator leaves more to the "
    "server and sees lower latencies; agreement shows where the server's own work dominates. -: a figure that the "
    "generator does not give, because it was the bottleneck or had too few requests."
)
Round = tuple[Figures, Figures]  # ours, theirs
_HEADER = (
    *("protocol", "callers", "generator", "req/s", "p50 ms", "p99 ms", "generator µs/req", "server req/core-s"),
    *("p50 ÷ theirs", "p99 ÷ theirs"),
)


@dataclass(frozen=True)
class Ratio:
    """Ours divided by theirs: the median over the rounds that have both, the lowest and the highest."""

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
    ours: Figures
    theirs: Figures
    p50: Ratio | None
    p99: Ratio | None


def combine(protocol: str, concurrency: int, seconds: float, rounds: Sequence[Round]) -> Row:
    """Combine the rounds of one protocol and concurrency."""
    mine, others = [ours for ours, _ in rounds], [theirs for _, theirs in rounds]
    return Row(
        protocol,
        concurrency,
        seconds,
        len(rounds),
        sum(figures.rate is None for figures in mine),
        _medians(mine),
        _medians(others),
        ratio((ours.p50_ms, theirs.p50_ms) for ours, theirs in rounds),
        ratio((ours.p99_ms, theirs.p99_ms) for ours, theirs in rounds),
    )


def _medians(rounds: Sequence[Figures]) -> Figures:
    """The median of each figure over the rounds that have it; None where none has."""
    medians = {}
    for field in fields(Figures):
        values = [value for figures in rounds if (value := getattr(figures, field.name)) is not None]
        medians[field.name] = median(values) if values else None
    return Figures(**medians)


def ratio(pairs: Iterable[tuple[float | None, float | None]]) -> Ratio | None:
    """Divide ours by theirs in the rounds that have both."""
    ratios = [ours / theirs for ours, theirs in pairs if ours is not None and theirs]
    return Ratio(median(ratios), min(ratios), max(ratios)) if ratios else None


def table(rows: Sequence[Row]) -> list[list[str]]:
    """A header, and two rows for each protocol and concurrency: ours with the ratios, theirs."""
    lines = [list(_HEADER)]
    for row in rows:
        beginning = [row.protocol, str(row.concurrency)]
        lines.append([*beginning, OURS, *_cells(row.ours), _spread(row.p50), _spread(row.p99)])
        lines.append([*beginning, THEIRS, *_cells(row.theirs), "", ""])
    return lines


def _cells(figures: Figures) -> list[str]:
    values = (figures.rate, figures.p50_ms, figures.p99_ms, figures.cpu_us, figures.served)
    formats = (",.0f", ",.2f", ",.2f", ",.0f", ",.0f")
    return ["-" if value is None else format(value, spec) for value, spec in zip(values, formats, strict=True)]


def _spread(ratio: Ratio | None) -> str:
    return "-" if ratio is None else f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def warnings(rows: Sequence[Row]) -> list[str]:
    """What a reader of the table must know."""
    return [
        f"{row.protocol}, {row.concurrency} callers: in {row.invalid} of {row.rounds} rounds {OURS} was the bottleneck "
        "and gave no figures"
        for row in rows
        if row.invalid
    ]


def document(rows: Sequence[Row]) -> dict[str, Any]:
    """One model's figures as JSON: by protocol and concurrency."""
    document: dict[str, Any] = {}
    for row in rows:
        figures = {name: value for name, value in asdict(row).items() if name not in ("protocol", "concurrency")}
        document.setdefault(row.protocol, {})[str(row.concurrency)] = _rounded(figures)
    return document


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(member) for key, member in value.items()}
    return round(value, 3) if isinstance(value, float) else value


def plot(rows: Sequence[Row]) -> "Figure":
    """The ratios of p50 and p99 with their spread, for each protocol and concurrency; 1 is agreement."""
    # Not pyplot, which keeps every figure and looks for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots()
    for shift, name in ((-0.1, "p50"), (0.1, "p99")):
        ratios = [(place + shift, getattr(row, name)) for place, row in enumerate(rows) if getattr(row, name)]
        middles = [ratio.median for _, ratio in ratios]
        errors = [[ratio.median - ratio.low for _, ratio in ratios], [ratio.high - ratio.median for _, ratio in ratios]]
        axes.errorbar([place for place, _ in ratios], middles, yerr=errors, fmt="o", capsize=4, label=name)
    axes.axhline(1, color="#8a94a3", linewidth=1)
    axes.set_xticks(range(len(rows)), [f"{row.protocol} {row.concurrency}" for row in rows])
    axes.set(xlabel="protocol and callers", ylabel=f"{OURS} ÷ {THEIRS}")
    axes.legend()
    axes.grid(axis="y", alpha=0.3)
    return figure
