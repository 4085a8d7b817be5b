"""How two load generators agree: medians over rounds, ratios within rounds and their spread, as a table and a chart."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import median
from typing import Any

from loadtest.report.axes import Axis
from loadtest.report.charts import Dot, dots
from loadtest.report.drawing import Chart
from tests.generator.generators import Figures

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


def chart(rows: Sequence[Row]) -> Chart:
    """The ratios of p50 and p99 with their spread, for each protocol and concurrency; 1 is agreement."""
    given = [
        Dot(f"{row.protocol}, {row.concurrency} callers", name, ratio.median, (ratio.low, ratio.high))
        for row in rows
        for name, ratio in (("p50", row.p50), ("p99", row.p99))
        if ratio
    ]
    about = f"latency of {OURS} divided by that of {THEIRS}, with the lowest and the highest ratio"
    return dots(about, given, Axis(f"{OURS} ÷ {THEIRS}", log=True, zero=False), (1.0, "agreement"))


def outcome(rows: Sequence[Row]) -> str:
    """The ratios that are furthest from agreement, in one line."""
    for_sorting = [(abs(math.log(row.p99.median)), row) for row in rows if row.p99]
    if not for_sorting:
        return "No round gave both generators a p99."
    _, row = max(for_sorting, key=lambda pair: pair[0])
    return f"Furthest apart in p99: {_spread(row.p99)} times theirs, {row.protocol}, {row.concurrency} callers."
