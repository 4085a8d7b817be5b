"""Load tests of language models without one: streams of known times, arithmetic of tokens, prompts, objectives."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from clients.connection import Connection
from clients.errors import InvalidInput
from loadtest import diff, slo
from loadtest.analysis.measurement import Setting, result_of
from loadtest.analysis.result import RunResult
from loadtest.analysis.server_side import Observation, server_side
from loadtest.analysis.tokens import TokenFigures, token_figures, token_gaps
from loadtest.generator.exact_prompts import target_of
from loadtest.generator.process import Sent
from loadtest.generator.stream_lanes import Chunks
from loadtest.load import open_loop
from loadtest.options import GeneratorOptions
from loadtest.prompts import Prompt, PromptOptions, Prompts, encode, read_prompts
from loadtest.records import ANSWERED, TIMED_OUT, Records, Streamed
from loadtest.report import comparison
from loadtest.report.run_report import page_of, text
from tests.unit.carrying import carry
from tests.unit.streaming_server import BREAKS, FAILS, MESSAGES, REFUSED, streaming

OPTIONS = PromptOptions(prompt_tokens=9, output_tokens=4)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with streaming() as address:
        yield address


def streams(url: str, protocol: str, prompt: str = "answered", count: int = 4, prefix: str = "") -> Records:
    prompts = Prompts("model", protocol, OPTIONS)
    return carry(target_of(Connection("http", url + prefix), encode(prompts, [Prompt(prompt, 4)])), count)


@pytest.mark.parametrize(("protocol", "prefix"), [("http", ""), ("openai", "/counting")])
def test_every_message_is_noted_with_its_time_and_its_tokens(url: str, protocol: str, prefix: str) -> None:
    runs = [streams(url, protocol, prefix=prefix) for _ in range(3)]
    expected = [seconds for seconds, tokens in MESSAGES if tokens]
    seen = [stream for run in runs if run.streams is not None for stream in run.streams]
    assert len(seen) == 12 and not any(run.failures() for run in runs)
    for stream in seen:
        assert (stream.tokens, stream.prompt_tokens, stream.is_counted) == ([1, 2, 1], 9, True)
        assert all(moment >= at for moment, at in zip(stream.moments, expected, strict=True))
    # A busy host may hold up any of them, but not each.
    soonest = [min(moments) for moments in zip(*(stream.moments for stream in seen), strict=True)]
    assert soonest == pytest.approx(expected, abs=0.025)


def test_tokens_that_are_counted_only_at_the_end_are_spread_over_the_messages(url: str) -> None:
    seen = streams(url, "openai")
    assert not seen.failures() and seen.streams is not None
    assert {(tuple(stream.tokens), stream.is_counted) for stream in seen.streams} == {((1, 1, 2), False)}


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [(REFUSED, "HTTP 400: too long"), (BREAKS, "the connection broke"), (FAILS, "error: out of memory")],
)
def test_a_stream_that_fails_says_how_and_the_next_one_is_carried(url: str, prompt: str, kind: str) -> None:
    assert streams(url, "http", prompt, count=9).failures() == {kind: 9}


def test_chunks_are_the_same_wherever_a_read_ends() -> None:
    wire = b"5\r\nhello\r\nc;name=x\r\n, \r\n world\r\n\r\n0\r\n\r\n"
    for first in range(len(wire)):
        for second in range(first, len(wire)):
            chunks = Chunks()
            parts = (wire[:first], wire[first:second], wire[second:])
            assert b"".join(map(chunks.feed, parts)) == b"hello, \r\n world\r\n" and chunks.has_ended


def test_the_times_between_n_tokens_are_one_less_and_add_up_however_messages_merge() -> None:
    gaps = token_gaps(Streamed([0.1, 0.2, 0.5], [2, 1, 3]))
    assert gaps == pytest.approx([0.0, 0.1, 0.1, 0.1, 0.1]) and gaps.sum() == pytest.approx(0.5 - 0.1)
    assert not len(token_gaps(Streamed())) and not len(token_gaps(Streamed([1.0], [1])))


def records(notes: list[Streamed], outcomes: list[int], latency: float = 1.0) -> Records:
    count = len(notes)
    array = np.empty(count, np.object_)
    array[:] = notes
    due, nothing = 0.1 * np.arange(count), np.zeros(count)
    kinds = (ANSWERED, TIMED_OUT)
    return Records(due, nothing, nothing + latency, np.array(outcomes, np.int16), nothing > 0, kinds, array)


def summary(objectives: str) -> TokenFigures:
    """Four requests: a fast one, one late to start, one with a pause, one without an answer."""
    notes = [
        Streamed([0.1, 0.2, 0.3], [1, 1, 1], 9),
        Streamed([0.6, 0.7, 0.8], [1, 1, 1], 9),
        Streamed([0.1, 0.2, 0.6], [1, 1, 1], 9),
        Streamed(),
    ]
    return token_figures(records(notes, [0, 0, 0, 1]), 0.0, 2.0, slo.parse(objectives, tokens=True))


@pytest.mark.parametrize(
    ("objectives", "good"),
    [
        ("", 3),
        ("ttft_p95<500ms", 2),
        ("itl_p99<300ms", 2),
        ("itl_p50<300ms", 3),
        ("tpot_p90<150ms", 2),
        ("ttft_p50<500ms,itl_max<300ms", 1),
        ("ttft_p95<500ms,p99<1s", 0),
    ],
)
def test_goodput_is_the_share_of_requests_within_every_objective(objectives: str, good: int) -> None:
    seen = summary(objectives)
    assert seen.good == good and seen.goodput_interval is not None
    assert seen.goodput_interval[0] <= good / 4 <= seen.goodput_interval[1]


def test_tokens_are_counted_and_a_request_without_any_counts_with_its_wait() -> None:
    seen = summary("")
    assert (seen.tokens_per_s, seen.prompt_tokens_per_s, seen.tokens_per_message) == (4.5, 13.5, 1.0)
    assert str(seen.output_tokens) == "3" and str(seen.prompt_tokens) == "9"
    assert seen.maxima["ttft"] == 1000.0 and seen.maxima["itl"] == pytest.approx(400.0)
    assert seen.means["tpot"] == pytest.approx(1000 * (0.1 + 0.1 + 0.25) / 3, abs=0.01)
    assert sum(stretch.streams for stretch in seen.course) / len(seen.course) == pytest.approx(4 * 1.0 / 2)


def run(slower: float = 1.0) -> RunResult:
    """A run at 50 requests per second whose streams are drawn here."""
    random, load = np.random.default_rng(1), open_loop("poisson", 50, 10, 0)
    assert load.due is not None
    first = slower * (0.1 + random.exponential(0.02, len(load.due)))
    notes = [Streamed([one, one + 0.02 * slower, one + 0.05 * slower], [1, 1, 2], 9) for one in first.tolist()]
    made = records(notes, [0] * len(notes), latency=0.3 * slower)
    whole = Records(load.due, made.lag, made.latency, made.outcome, made.held, made.kinds, made.streams)
    setting = Setting(Connection(), Prompts("model", "openai", OPTIONS), GeneratorOptions(warm_up_s=0.0))
    server = server_side(Observation({}, None), Observation({}, None), {"name": "model"}, 0.0)
    objectives = slo.parse("ttft_p95<200ms,itl_p99<30ms", tokens=True)
    return result_of(setting, load, Sent(whole, 0.0, 0.4, 0.1, 1), objectives, server)


def test_a_run_is_reported_and_two_are_compared_by_their_tokens() -> None:
    fast, slow = run(), run(slower=2.0)
    assert fast.has_passed and not slow.has_passed and "ttft_p95<200ms (was" in slow.slo_missed[0]
    assert "to the first token" in text(fast) and "within every objective" in text(fast)
    assert page_of(fast).html().count('class="plot"') == 6 and fast.document()["protocol"] == "openai"
    before, after = (json.loads(json.dumps(one.document())) for one in (fast, slow))
    diff.check_same_load(before, after)
    worse = {change.figure for change in comparison.changes(before, after, 0.05) if change.verdict == "worse"}
    assert {"ttft_p50", "itl_p50", "tpot_p90", "p50", "goodput"} <= worse


def test_only_a_language_model_has_objectives_of_tokens() -> None:
    assert slo.missed(slo.parse("tps>5,ttft_p50<1s", tokens=True), {"tokens_per_s": 4.0, "ttft_p50_ms": 10.0})
    with pytest.raises(slo.SloError, match="cannot parse the objective 'ttft_p95<1s'"):
        slo.parse("ttft_p95<1s")


def test_prompts_come_from_a_file_with_their_own_numbers_of_tokens(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "one", "output_tokens": 3}\n\n{"text": "two"}\n')
    assert read_prompts(file, 64) == (Prompt("one", 3), Prompt("two", 64))
    file.write_text('{"prompt": "one"}\n{"prompt": 7}\n')
    with pytest.raises(InvalidInput, match='line 2: expected {"prompt": "…"}.* got {"prompt": 7}'):
        read_prompts(file, 64)


def test_made_prompts_are_of_one_length_and_unlike_in_every_run() -> None:
    prompts = Prompts("model", "grpc", OPTIONS, words=("cat", "sea", "sun", "tea"), length=8)
    first, again = prompts.made(50), prompts.made(50)
    assert {len(prompt.text.split()) for prompt in first} == {9} and first != again
