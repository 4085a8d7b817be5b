"""What the callers of a language model saw: time to the first token, between tokens, tokens per second, goodput.

The time to the first token counts from the moment at which the request was due, as every latency does. A message of
several tokens makes each of them wait for an equal part of the time since the message before; tokens that come with the
first one have waited no longer than that. So the times between n tokens are n - 1, and add up to the time from the
first to the last, whatever the server puts into one message.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from loadtest.analysis.figures import stretches
from loadtest.analysis.intervals import Percentile, Values, curve, order_statistic, percentile, wilson_interval
from loadtest.records import ANSWERED, Records, Streamed
from loadtest.slo import PERCENTILES, Objective, goodput_limit

_SHORTEST_STRETCH_S = 1.0


@dataclass(frozen=True)
class Range:
    """Least, mean and most of a number of tokens per request."""

    least: int
    mean: float
    most: int

    def __str__(self) -> str:
        return f"{self.least}" if self.least == self.most else f"{self.mean:g} ({self.least} to {self.most})"


@dataclass(frozen=True)
class TokenStretch:
    """A stretch of a run, by the clock; latencies in milliseconds, None where there was none."""

    from_s: float
    tokens_per_s: float
    streams: float  # mean number of requests that waited for tokens
    ttft_p50_ms: float | None  # of the requests that were due in it
    ttft_p99_ms: float | None
    itl_p50_ms: float | None  # of the tokens that came in it
    itl_p99_ms: float | None


@dataclass(frozen=True)
class TokenFigures:
    """Figures of a run after its warm-up; latencies in milliseconds.

    Times to the first token (ttft), between tokens (itl, of all answers together), and between the tokens of one answer
    on average (tpot, time per output token).
    """

    percentiles: dict[str, Percentile]  # by name, for example "ttft_p99"
    means: dict[str, float | None]
    maxima: dict[str, float | None]
    tokens_per_s: float  # answered, of all requests together
    prompt_tokens_per_s: float
    tokens_per_s_per_user: float | None  # of one answer from its first token on, the median
    tokens_per_message: float | None
    prompt_tokens: Range | None  # per request, as the server counts them
    output_tokens: Range | None
    is_counted: bool  # whether the server counted the tokens of each message
    good: int  # requests within every objective
    goodput_interval: tuple[float, float] | None  # of their share
    curves: dict[str, list[tuple[float, float]]]  # (percentile, milliseconds)
    course: list[TokenStretch]  # the whole run over time, warm-up included

    def values(self) -> dict[str, float | None]:
        """The figures that objectives limit, by the names that `loadtest.slo` uses."""
        maxima = {f"{name}_max_ms": value for name, value in self.maxima.items()}
        levels = {f"{name}_ms": estimate.value for name, estimate in self.percentiles.items()}
        return {**levels, **maxima, "tokens_per_s": self.tokens_per_s}

    def document(self) -> dict[str, Any]:
        """As JSON."""
        document = asdict(self)
        means = {f"{name}_mean_ms": value for name, value in document.pop("means").items()}
        for name in ("percentiles", "maxima", "good"):  # Elsewhere in the run's document.
            del document[name]
        return {**document, "curve": document.pop("curves"), **means, **self.values()}


def token_gaps(stream: Streamed) -> Values:
    """Seconds between the n tokens of a stream: n - 1, in the order in which they came."""
    moments, tokens = np.array(stream.moments), np.array(stream.tokens, np.int64)
    if not len(tokens):
        return moments
    waits = np.diff(moments) / np.maximum(1, tokens[1:])
    return np.concatenate([np.zeros(max(0, tokens[0] - 1)), np.repeat(waits, tokens[1:])])


def first_token(records: Records) -> Values:
    """[requests] seconds from the due time to the first token; where none came, the time for which it was waited."""
    assert records.streams is not None
    firsts = [stream.moments[0] if stream.moments else np.inf for stream in records.streams]
    return np.minimum(np.array(firsts, np.float64), records.latency)


def token_figures(records: Records, start: float, end: float, objectives: Sequence[Objective]) -> TokenFigures:
    """Summarize the requests that were due from `start`, the end of the warm-up, to `end` of the run, in seconds."""
    due = records.where(records.due >= start)
    timed, answered = due.timed(), due.where(due.of(ANSWERED))
    assert timed.streams is not None and answered.streams is not None
    gaps, seconds = [token_gaps(stream) for stream in timed.streams], max(1e-9, end - start)
    samples = {"ttft": first_token(timed), "itl": _in_order(timed, gaps), "tpot": _means(gaps)}
    moments, tokens = _arrivals(records)
    came = float(tokens[(moments >= start) & (moments < end)].sum())
    counts, messages = [sum(stream.tokens) for stream in answered.streams], sum(len(s.tokens) for s in answered.streams)
    prompts = [stream.prompt_tokens for stream in answered.streams]
    good = int(within(timed, gaps, objectives).sum())
    return TokenFigures(
        percentiles={
            f"{name}_{level}": percentile(1000 * values, share)
            for name, values in samples.items()
            for level, share in PERCENTILES.items()
        },
        means={name: _rounded(values.mean()) if len(values) else None for name, values in samples.items()},
        maxima={name: _rounded(values.max()) if len(values) else None for name, values in samples.items()},
        tokens_per_s=round(came / seconds, 1),
        prompt_tokens_per_s=round(sum(prompts) / seconds, 1),
        tokens_per_s_per_user=_per_user(samples["tpot"]),
        tokens_per_message=round(sum(counts) / messages, 3) if messages else None,
        prompt_tokens=_range(prompts),
        output_tokens=_range(counts),
        is_counted=all(stream.is_counted for stream in answered.streams),
        good=good,
        goodput_interval=wilson_interval(good, len(due)) if len(due) else None,
        curves={name: curve(1000 * values) for name, values in samples.items()},
        course=_course(records, end, moments, tokens),
    )


def within(timed: Records, gaps: Sequence[Values], objectives: Sequence[Objective]) -> np.ndarray[Any, Any]:
    """[requests] mask of those that are within the limits of all objectives.

    An answer's times between tokens are judged by the percentile that the objective names, of this answer's alone.
    """
    good, first = timed.of(ANSWERED), first_token(timed)
    for prefix, values in {"": timed.latency, "ttft_": first, "tpot_": _means(gaps, 0.0)}.items():
        if limit := goodput_limit(objectives, prefix):
            good &= 1000 * values < limit[1]
    if limit := goodput_limit(objectives, "itl_"):
        own = [order_statistic(values, limit[0]) if len(values) else 0.0 for values in gaps]
        good &= 1000 * np.array(own, np.float64) < limit[1]
    return good


def _means(gaps: Sequence[Values], of_none: float | None = None) -> Values:
    """Mean time between an answer's tokens; answers of a single token have none, and are left out by default."""
    means = [float(values.mean()) if len(values) else of_none for values in gaps]
    return np.array([mean for mean in means if mean is not None], np.float64)


def _per_user(means: Values) -> float | None:
    positive = means[means > 0]
    return round(1 / float(np.median(positive)), 1) if len(positive) else None


def _range(counts: Sequence[int]) -> Range | None:
    return Range(min(counts), round(sum(counts) / len(counts), 2), max(counts)) if counts else None


def _rounded(seconds: float) -> float:
    return round(1000 * float(seconds), 3)


def _ends(records: Records) -> list[Values]:
    """For each request, when its tokens came, but for the first, in seconds from the start of the run."""
    assert records.streams is not None
    return [
        due + np.repeat(stream.moments, np.array(stream.tokens, np.int64))[1:]
        for due, stream in zip(records.due.tolist(), records.streams, strict=True)
    ]


def _in_order(records: Records, gaps: Sequence[Values]) -> Values:
    """The times between tokens of all requests, in the order in which the tokens came."""
    if not gaps:
        return np.zeros(0)
    order = np.argsort(np.concatenate(_ends(records)), kind="stable")
    return np.asarray(np.concatenate(gaps)[order], np.float64)


def _arrivals(records: Records) -> tuple[Values, Values]:
    """When messages came, in seconds from the start of the run, and how many tokens each brought."""
    assert records.streams is not None
    moments = [due + np.array(stream.moments) for due, stream in zip(records.due, records.streams, strict=True)]
    tokens = [np.array(stream.tokens, np.float64) for stream in records.streams]
    return np.concatenate([*moments, np.zeros(0)]), np.concatenate([*tokens, np.zeros(0)])


def _course(records: Records, duration: float, moments: Values, tokens: Values) -> list[TokenStretch]:
    course, timed = [], records.timed()
    assert timed.streams is not None
    firsts, gaps = first_token(timed), np.concatenate([*(token_gaps(stream) for stream in timed.streams), np.zeros(0)])
    ends, over = np.concatenate([*_ends(timed), np.zeros(0)]), timed.due + timed.latency
    for start, end in stretches(duration, _SHORTEST_STRETCH_S):
        came = float(tokens[(moments >= start) & (moments < end)].sum())
        overlaps = np.clip(np.minimum(over, end) - np.maximum(timed.due, start), 0, None)
        ttft, itl = firsts[(timed.due >= start) & (timed.due < end)], gaps[(ends >= start) & (ends < end)]
        rates = round(came / (end - start), 1), round(float(overlaps.sum()) / (end - start), 2)
        course.append(TokenStretch(round(start, 3), *rates, *_levels(ttft), *_levels(itl)))
    return course


def _levels(seconds: Values) -> tuple[float | None, float | None]:
    """Median and p99 in milliseconds."""
    if not len(seconds):
        return None, None
    low, high = (1000 * np.percentile(seconds, [50, 99])).round(3).tolist()
    return low, high
