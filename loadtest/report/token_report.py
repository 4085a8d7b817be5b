"""The part of a report that only runs against language models have: latencies of tokens, tokens per second, goodput."""

from loadtest.analysis.intervals import Percentile
from loadtest.analysis.result import RunResult
from loadtest.analysis.tokens import TokenFigures
from loadtest.report.page import Section, Table, interval, number
from loadtest.report.plots import by_percentile, over_time
from loadtest.slo import PERCENTILES

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
    course = tokens.course
    half = result.load.duration / len(course) / 2  # Each point stands in the middle of its stretch.
    seconds = [stretch.from_s + half for stretch in course]
    firsts = {level: [getattr(stretch, f"ttft_{level}_ms") for stretch in course] for level in ("p50", "p99")}
    between = {level: [getattr(stretch, f"itl_{level}_ms") for stretch in course] for level in ("p50", "p99")}
    return [
        Section("Latency", table=table(result), notes=[_NOTE, *rates(result), generator]),
        Section("Tokens per second", over_time(seconds, {"tokens": [stretch.tokens_per_s for stretch in course]})),
        Section("Requests under way", over_time(seconds, {"requests": [stretch.streams for stretch in course]})),
        Section("Time to the first token in ms, by due time", over_time(seconds, firsts)),
        Section("Time between tokens in ms, by the time at which they came", over_time(seconds, between)),
        Section("Time to the first token in ms, by percentile", by_percentile(tokens.curves["ttft"])),
        Section("Time between tokens in ms, by percentile", by_percentile(tokens.curves["itl"])),
    ]


def _tokens(result: RunResult) -> TokenFigures:
    assert result.tokens is not None
    return result.tokens


def _cell(estimate: Percentile) -> str:
    if estimate.value is None:
        return "-"
    return f"{number(estimate.value)} ({interval(estimate.low, estimate.high)})"
