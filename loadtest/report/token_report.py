"""The part of a report that only runs against language models have: latencies of tokens, tokens per second, goodput."""

from loadtest.analysis.intervals import Percentile
from loadtest.analysis.result import RunResult
from loadtest.analysis.tokens import TokenFigures
from loadtest.report.axes import Axis, interval, number
from loadtest.report.charts import MS, Line, by_percentile, over_time
from loadtest.report.page import Section, Table, half
from loadtest.slo import PERCENTILES

_SHORT = {"ttft": "first token", "itl": "between tokens"}
_NAMES = {"ttft": "to the first token", "itl": "between tokens", "tpot": "between tokens, mean of an answer"}
_NOTE = (
    "Milliseconds with 95 % intervals, which allow for autocorrelation; a question mark is an end that the run was too "
    "short to determine, a dash a percentile of too few values. Times to the first token and of whole answers count "
    "from the moment a request was due. Times between tokens are those of all answers: a message of several tokens "
    "makes each of them wait for an equal part of the time since the message before."
)


def table(result: RunResult) -> Table:
    """Percentiles by row, each with its interval."""
    figures, tokens = result.figures, _tokens(result)
    rows = [["ms", *PERCENTILES, "max"]]
    for kind, name in _NAMES.items():
        cells = [_cell(tokens.percentiles[f"{kind}_{level}"]) for level in PERCENTILES]
        rows.append([name, *cells, number(tokens.maxima[kind])])
    return [*rows, ["whole answer", *map(_cell, figures.percentiles.values()), number(figures.max_ms)]]


def highest(result: RunResult) -> list[tuple[str, Percentile]]:
    """Of the times to the first token and between tokens, the highest percentile up to p99 that was measured."""
    known = [
        [(f"{name} {level}", _tokens(result).percentiles[f"{kind}_{level}"]) for level in ("p99", "p95", "p90", "p50")]
        for kind, name in _SHORT.items()
    ]
    return [next((one for one in levels if one[1].value is not None), levels[0]) for levels in known]


def rates(result: RunResult) -> list[str]:
    """Tokens and requests per second, and goodput, in sentences."""
    figures, tokens = result.figures, _tokens(result)
    merged = f"; {tokens.tokens_per_message:g} per message" if tokens.is_counted and tokens.tokens_per_message else ""
    good = ""
    if figures.goodput_share is not None and tokens.goodput_interval and any(goal.below for goal in result.objectives):
        ends = " to ".join(f"{end:.1%}" for end in tokens.goodput_interval)
        good = f"; {number(figures.goodput_rps)} ({figures.goodput_share:.1%}, {ends}) within every objective"
    return [
        f"tokens per second: {number(tokens.tokens_per_s)} answered, {number(tokens.tokens_per_s_per_user)} per user "
        f"(median), {number(tokens.prompt_tokens_per_s)} of prompts",
        f"tokens per request: {tokens.prompt_tokens or '-'} in, {tokens.output_tokens or '-'} out{merged}",
        f"requests per second: {number(figures.offered_rps)} offered, {number(figures.rps)} answered{good}",
    ]


def sections(result: RunResult, generator: str) -> list[Section]:
    """Tables and plots."""
    tokens = _tokens(result)
    middle = result.load.duration / len(tokens.course) / 2  # Each point stands in the middle of its stretch.

    def line(name: str) -> Line:
        return [(one.from_s + middle, getattr(one, name)) for one in tokens.course]

    firsts = {level: line(f"ttft_{level}_ms") for level in ("p50", "p99")}
    between = {level: line(f"itl_{level}_ms") for level in ("p50", "p99")}
    answered, under_way = {"tokens": line("tokens_per_s")}, {"requests": line("streams")}
    return [
        Section("Latency", table=table(result), notes=[_NOTE, *rates(result), generator]),
        half("Time to the first token, by due time", over_time("time to the first token", firsts, MS)),
        half("Time between tokens, by the time at which they came", over_time("time between tokens", between, MS)),
        _percentiles(tokens, "ttft", "Time to the first token, by percentile"),
        _percentiles(tokens, "itl", "Time between tokens, by percentile"),
        half("Tokens answered", over_time("tokens answered per second", answered, Axis("", "tokens per second"))),
        half("Requests under way", over_time("requests under way", under_way, Axis("", "requests"))),
    ]


def _percentiles(tokens: TokenFigures, kind: str, title: str) -> Section:
    known = {level: tokens.percentiles[f"{kind}_{level}"] for level in PERCENTILES}
    name = _NAMES[kind]
    return half(title, by_percentile(f"{name}, with 95 % intervals", {name: tokens.curves[kind]}, {name: known}))


def _tokens(result: RunResult) -> TokenFigures:
    assert result.tokens is not None
    return result.tokens


def _cell(estimate: Percentile) -> str:
    if estimate.value is None:
        return "-"
    return f"{number(estimate.value)} ({interval(estimate.low, estimate.high)})"
