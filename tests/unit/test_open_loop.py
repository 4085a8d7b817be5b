"""The arithmetic of a run: schedules, intervals, warm-up, the generator's audit, the verdict."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clients.errors import InvalidInput
from loadtest import slo
from loadtest.analysis.audit import audit
from loadtest.analysis.figures import Figures, figures
from loadtest.analysis.intervals import bounds, percentile, samples_required, wilson_interval
from loadtest.analysis.warmup import warm_up
from loadtest.generator.process import Sent
from loadtest.load import SCHEDULES, Times, due_times, part_of
from loadtest.records import ANSWERED, TIMED_OUT, UNSENT, Records, merge
from loadtest.run import parse
from tests.unit.results import result

RATE, DURATION = 1000.0, 20.0


def records(latency: Times, lag: float = 0.0, gap: float = 0.01, outcome: int = 0) -> Records:
    count = len(latency)
    due, lags = gap * np.arange(count), np.full(count, lag)
    return Records(due, lags, latency, np.full(count, outcome, np.int16), np.zeros(count, np.bool_), KINDS)


KINDS = (ANSWERED, TIMED_OUT, UNSENT)


def summary(whole: Records, seconds: float, objectives: str = "") -> Figures:
    return figures(whole, 0.0, seconds, slo.parse(objectives))


def counts(times: Times, pieces: int) -> Times:
    return np.asarray(np.histogram(times, pieces, (0, DURATION))[0] / (RATE * DURATION / pieces), np.float64)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_rises_stays_within_its_duration_and_is_the_same_for_the_same_seed(name: str) -> None:
    times = due_times(name, RATE, DURATION, 3)
    assert (np.diff(times) >= 0).all() and times[0] >= 0 and times[-1] < DURATION
    assert np.array_equal(times, due_times(name, RATE, DURATION, 3))
    assert name == "constant" or not np.array_equal(times, due_times(name, RATE, DURATION, 4))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constant", [1] * 4),
        ("poisson", [1] * 4),
        ("steps", [0.25, 0.5, 0.75, 1]),
        ("ramp", [0.125, 0.375, 0.625, 0.875]),
        ("spike", [1, 1.8, 1, 1]),
    ],
)
def test_a_schedule_has_the_rates_that_its_name_says(name: str, expected: list[float]) -> None:
    assert counts(due_times(name, RATE, DURATION, 5), 4) == pytest.approx(expected, rel=0.05, abs=0.03)


def test_gaps_of_poisson_arrivals_are_exponential_and_those_of_constant_ones_equal() -> None:
    gaps = np.diff(due_times("poisson", RATE, DURATION, 1))
    assert gaps.std() / gaps.mean() == pytest.approx(1, rel=0.05)
    assert np.diff(due_times("constant", RATE, DURATION, 1)) == pytest.approx(1 / RATE)


def test_the_parts_of_all_workers_are_the_schedule() -> None:
    times = due_times("poisson", 50, 2, 0)
    assert np.array_equal(np.sort(np.concatenate([part_of(times, n, 3) for n in range(3)])), times)


def test_a_trace_is_replayed_as_it_was_or_at_another_rate(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("time,user\n12.0,b\n10.0,a\n11.0 c\n\n14.0\n")
    assert due_times(str(trace), None, None, 0).tolist() == [0, 1, 2, 4]
    assert due_times(str(trace), None, 2.0, 0).tolist() == [0, 1]
    assert due_times(str(trace), 30.0, None, 0).tolist() == pytest.approx([0, 0.025, 0.05, 0.1])


@pytest.mark.parametrize(
    ("arrivals", "rate", "duration", "words"),
    [
        ("poisson", None, 1.0, "needs --rate and --duration"),
        ("poisson", 0.0, 1.0, "expected --rate of more than 0, got 0"),
        ("constant", 1.0, float("nan"), "expected --duration of more than 0"),
        ("constant", 1e6, 1e3, "shorten the test"),
        ("nope.txt", None, None, "expected constant, poisson"),
        ("broken", None, None, "at the start of each line"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(
    arrivals: str, rate: float | None, duration: float | None, words: str, tmp_path: Path
) -> None:
    (tmp_path / "broken").write_text("1.0\nsoon\n")
    with pytest.raises(InvalidInput, match=words):
        due_times(str(tmp_path / arrivals) if arrivals == "broken" else arrivals, rate, duration, 0)


@pytest.mark.parametrize("words", ["--rate 9 --concurrency 2", "--concurrency 0", "--rate -1", ""])
def test_arguments_that_do_not_make_a_load_are_refused(words: str) -> None:
    with pytest.raises(InvalidInput, match="expected|choose"):
        parse(["model", *words.split()])[1].load(seed=0)


def test_bounds_are_those_of_published_tables() -> None:
    assert bounds(100, 0.5) == (0.40, 0.61)  # Hahn and Meeker, table A.15: ranks 40 and 61 of 100
    assert (samples_required(0.99), samples_required(0.999), samples_required(0.5)) == (368, 3688, 6)
    assert bounds(367, 0.99)[1] is None and bounds(368, 0.99)[1] == 1.0
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)


def coverage(draw: Callable[[np.random.Generator], Times], truth: float, share: float, runs: int) -> float:
    random = np.random.default_rng(0)
    estimates = [percentile(draw(random), share) for _ in range(runs)]
    return float(np.mean([(one.low or 0.0) <= truth <= (one.high or np.inf) for one in estimates]))


def test_intervals_of_independent_values_hold_the_truth_as_often_as_they_say() -> None:
    held = coverage(lambda random: random.exponential(size=2000), -np.log(0.01), 0.99, 300)
    assert 0.93 <= held <= 1.0


def waits(random: np.random.Generator) -> Times:
    """Times in a queue of one server that is busy for 70 % of the time (M/M/1), by Lindley's recursion."""
    steps = random.exponential(size=6000) - random.exponential(size=6000) / 0.7
    walk = np.concatenate([[0.0], np.cumsum(steps)])
    wait = walk - np.minimum.accumulate(walk)
    return np.asarray(wait[:-1] + random.exponential(size=6000), np.float64)[1000:]


def test_intervals_hold_the_truth_in_a_queue_too_where_latencies_are_autocorrelated() -> None:
    draws = np.random.default_rng(1)
    truth = float(np.mean([np.quantile(waits(draws), 0.95) for _ in range(400)]))
    assert coverage(waits, truth, 0.95, 150) >= 0.85


def test_a_percentile_of_too_few_requests_is_refused_and_fails_its_objective() -> None:
    seen = summary(records(np.full(100, 0.001)), 1.0).values()
    assert seen["p50_ms"] == 1.0 and seen["p99.9_ms"] is None
    assert slo.missed(slo.parse("p99.9<1s"), seen) == ["p99.9<1s (was not measured: too few answers)"]


def test_a_slow_beginning_is_left_out_and_a_stall_near_it_is_not() -> None:
    noise = np.random.default_rng(2).lognormal(sigma=0.3, size=3000) * 0.002
    cold, stall = noise.copy(), noise.copy()
    cold[:300] += np.linspace(0.1, 0.005, 300)
    stall[100:160] += 0.2
    assert 250 <= warm_up(cold).requests <= 450
    assert warm_up(stall).requests == 0 and warm_up(noise).requests == 0


def test_latencies_that_grow_to_the_end_are_not_steady() -> None:
    noise = np.random.default_rng(2).lognormal(sigma=0.3, size=3000) * 0.002
    assert warm_up(noise).steady
    assert not warm_up(noise + np.linspace(0, 1, 3000)).steady


def test_records_of_several_processes_merge_in_order_with_their_failures() -> None:
    one, other = records(np.full(4, 0.1)), records(np.full(4, 0.2), outcome=1)
    merged = merge([one, Records(other.due + 0.005, *other_fields(other), ("answered", "HTTP 500"))])
    assert merged.latency.tolist() == [0.1, 0.2] * 4
    assert merged.failures() == {"HTTP 500": 4}


def other_fields(one: Records) -> tuple[Times, Times, object, object]:
    return one.lag, one.latency, one.outcome, one.held


def test_goodput_counts_answers_within_the_limit_and_requests_given_up_are_among_the_latencies() -> None:
    latency = np.concatenate([np.full(60, 0.010), np.full(20, 0.030), np.full(20, 2.0)])
    mixed = records(latency)
    mixed.outcome[80:] = 1
    seen = summary(mixed, 1.0, "p50<5ms,p99<20ms,errors<1%")
    assert (seen.goodput_limit_ms, seen.goodput_rps, seen.goodput_share) == (20, 60, 0.6)
    assert seen.error_kinds == {"timeout": 20} and seen.max_ms == 2000 and seen.percentiles["p90"].value == 2000


def sent(latency: Times, lag: float, busiest: float = 0.2, outcome: int = 0) -> Sent:
    return Sent(records(latency, lag, outcome=outcome), 0.0, 1.0, busiest, 1)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (sent(np.full(500, 0.020), 0.0005), None),
        (sent(np.full(500, 0.003), 0.0009), None),  # Less than a millisecond is held against nobody.
        (sent(np.full(500, 0.020), 0.005), "25% of p50 (20 ms) is the generator's own lag"),
        (sent(np.full(500, 0.020), 0.0, busiest=0.95), "busy for 95% of a second"),
        (sent(np.full(500, 0.020), 0.0, outcome=2), "500 requests could not be sent in time"),
    ],
)
def test_a_run_is_invalid_when_its_figures_are_the_generators(run: Sent, words: str | None) -> None:
    measured = replace(result(), figures=summary(run.records, 5.0), generator=audit(run))
    document = measured.document()
    assert document["valid"] is (words is None)
    assert words is None or words in document["invalid_because"][0]
    assert (document["p50_ms"] is None) is (words is not None)
