"""The twin, its fit, and what a tuner chooses from, writes and remembers; the server's side is in tests/e2e."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from loadtest.slo import SloError
from tools.repository import REPOSITORY, ROOT, read_config
from tools.tune.candidates import (
    Candidate,
    Deployment,
    TuningError,
    applied,
    candidate_from,
    candidate_of,
    deployments,
    space,
)
from tools.tune.fitting import Observation, fit, simulate
from tools.tune.goal import Goal, goal
from tools.tune.prediction import arrivals, peak, rank, shortlist
from tools.tune.race import best_of
from tools.tune.record import Measured, Record, figure, taken_up
from tools.tune.together import Search, Tried
from tools.tune.trials import around
from tools.tune.twin import Array, Host, closed_loop, open_loop

ONE = Deployment(1, 1)
QUIET = Host(float("inf"), 0.0, 0.0, 0.0, 0.001, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
UNIT = np.cumsum(np.random.default_rng(3).exponential(size=200_000))


def waits(load: float, servers: int = 1) -> Array:
    return open_loop(QUIET, Candidate(Deployment(servers, 1), 1, 0), 1000 * load, UNIT).latency


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_one_instance_without_batches_is_the_queue_of_the_textbook(load: float) -> None:
    # M/D/1 (Pollaczek-Khinchine): mean time in the system, in service times.
    assert waits(load).mean() * 1000 == pytest.approx(1 + load / (2 * (1 - load)), rel=0.05)


def test_two_instances_share_the_work() -> None:
    assert waits(1.4, servers=2).mean() < waits(0.9).mean()


def test_processors_that_are_shared_slow_what_runs_at_the_same_time() -> None:
    choice = Candidate(Deployment(2, 1), 1, 0)
    apart = closed_loop(replace(QUIET, cores=2.0), choice, 2, 2000).seconds
    together = closed_loop(replace(QUIET, cores=1.0), choice, 2, 2000).seconds
    assert together == pytest.approx(2 * apart, rel=0.02)


def test_the_batcher_takes_all_that_wait_up_to_the_largest_batch() -> None:
    host = replace(QUIET, cores=4.0, wake=0.0001)
    assert closed_loop(host, Candidate(ONE, 8, 0), 64, 6400).mean_batch == pytest.approx(8, rel=0.05)
    assert closed_loop(host, Candidate(ONE, 64, 0), 16, 6400).mean_batch == pytest.approx(16, rel=0.05)


def test_who_comes_while_an_instance_wakes_joins_its_batch() -> None:
    woken = open_loop(replace(QUIET, wake=0.001), Candidate(ONE, 64, 0), 500.0, UNIT[:4000])
    assert woken.mean_batch > 1.2 * open_loop(QUIET, Candidate(ONE, 64, 0), 500.0, UNIT[:4000]).mean_batch


def test_a_preferred_size_without_a_delay_limits_batches_as_in_triton() -> None:
    run = closed_loop(QUIET, Candidate(ONE, 64, 0, (4,)), 64, 6400)
    assert run.mean_batch == pytest.approx(4, rel=0.05)


def test_a_delay_is_waited_for_where_nobody_else_comes() -> None:
    run = open_loop(QUIET, Candidate(ONE, 8, 5000), 1.0, UNIT[:200])
    assert np.median(run.latency) == pytest.approx(0.006, rel=0.05)


def test_a_full_batch_does_not_wait_for_the_delay() -> None:
    run = open_loop(QUIET, Candidate(ONE, 2, 1_000_000), 500.0, UNIT[:4000])
    assert np.median(run.latency) < 0.02


def test_a_host_that_is_away_shows_in_the_tail_of_an_open_loop() -> None:
    choice = Candidate(ONE, 1, 0)
    away = open_loop(replace(QUIET, stalls=2.0, stall=0.02), choice, 200.0, UNIT[:20_000]).latency
    assert np.quantile(away, 0.99) > 0.01
    assert np.quantile(waits(0.2), 0.99) < 0.005


def test_the_fit_finds_a_host_that_acts_like_the_one_that_was_observed() -> None:
    host = Host(2.0, 30e-6, 40e-6, 20e-6, 200e-6, 60e-6, 20e-6, 50e-6, 0.1, 80e-6, 0.5, 0.003)
    choice = Candidate(ONE, 64, 0)
    unit = np.cumsum(np.random.default_rng(9).exponential(size=5000))
    asked = [Observation(callers, 0, 0, 0, 0, 0, 0, 20e-6) for callers in (1, 64)] + [
        Observation(0, rate, 0, 0, 0, 0, 0, 30e-6) for rate in (5000.0, 7000.0)
    ]
    found = fit([simulate(host, choice, one, unit) for one in asked], choice, 2.0)
    wanted = goal("p99<20ms", "throughput", None)
    assert found.rps_error < 0.05
    for other in (Candidate(ONE, 8, 0), Candidate(ONE, 64, 1000)):
        mine, its = peak(found.host, other, wanted, arrivals()), peak(host, other, wanted, arrivals())
        assert mine is not None
        assert its is not None
        assert mine == pytest.approx(its, rel=0.15)


def test_the_best_choices_come_first_and_the_present_one_is_always_measured() -> None:
    host = Host(2.0, 0.0, 25e-6, 0.0, 1e-3, 1e-5, 0.0, 0.0, 0.05, 0.0, 0.0, 0.0)
    base = Candidate(ONE, 64, 0)
    wanted = goal("p99<20ms", "throughput", None)
    choices = [base, Candidate(ONE, 1, 0), Candidate(ONE, 16, 0)]
    ranked = rank({ONE: host}, choices, wanted)
    assert [one.candidate for one in ranked] == [base, Candidate(ONE, 16, 0), Candidate(ONE, 1, 0)]
    assert shortlist(ranked, Candidate(ONE, 1, 0), 2) == [Candidate(ONE, 1, 0), base]


def test_of_a_deployment_that_is_far_behind_nothing_is_measured() -> None:
    good = Host(2.0, 0.0, 25e-6, 0.0, 1e-3, 1e-5, 0.0, 0.0, 0.05, 0.0, 0.0, 0.0)
    bad, fair = Deployment(1, 2), Deployment(2, 1)
    hosts = {ONE: good, fair: good, bad: replace(good, each=1e-3)}
    choices = [Candidate(each, size, 0) for each in hosts for size in (8, 64)]
    chosen = shortlist(rank(hosts, choices, goal("p99<20ms", "throughput", None)), Candidate(bad, 64, 0), 9)
    assert chosen[0] == Candidate(bad, 64, 0)
    assert set(chosen[1:3]) == {Candidate(ONE, 64, 0), Candidate(fair, 64, 0)}
    assert Candidate(bad, 8, 0) not in chosen[:5]


def test_nothing_is_ranked_that_cannot_keep_to_the_objective() -> None:
    assert not rank({ONE: QUIET}, [Candidate(ONE, 4, 0)], goal("p99<0.5ms", "throughput", None))


def test_deployments_do_not_exceed_the_cores() -> None:
    assert deployments(2, gpu=False) == [Deployment(2, 1), Deployment(1, 2), ONE]
    assert all(one.instances * one.threads <= 6 for one in deployments(6, gpu=False))
    assert {one.threads for one in deployments(6, gpu=True)} == {1}


def test_the_space_holds_the_present_choice_and_nothing_larger_than_was_proven() -> None:
    base = Candidate(Deployment(3, 1), 48, 123)
    found = space(base, [ONE], 20.0, 4)
    assert base in found
    assert {one.max_batch_size for one in found} == {4, 8, 16, 32, 48}
    assert max(one.delay_us for one in found) == 10_000


def test_a_choice_is_written_into_a_config_and_read_out_of_it() -> None:
    config = read_config("mnist_mlp", repository=REPOSITORY)
    choice = Candidate(Deployment(2, 3), 16, 700, (8,))
    changed = applied(choice, config)
    assert candidate_of(changed) == choice
    assert candidate_from(json.loads(json.dumps(choice.document()))) == choice
    assert max(one.batch_size for one in changed.model_warmup) == 16
    assert changed.input == config.input
    assert candidate_of(config).max_batch_size == 64


def test_a_model_without_dynamic_batching_is_refused() -> None:
    config = text_format.Parse('name: "plain" max_batch_size: 4', ModelConfig())
    with pytest.raises(TuningError, match="plain: expected a config with .* dynamic_batching"):
        candidate_of(config)


@pytest.mark.parametrize(
    ("text", "name", "rate", "error", "words"),
    [
        ("errors<1%", "throughput", None, TuningError, "expected a percentile"),
        ("p99<20ms", "latency", None, TuningError, "--rate"),
        ("p99<20ms", "cost", -1.0, TuningError, "more than 0"),
        ("p77<20ms", "throughput", None, SloError, "p77"),
    ],
)
def test_a_goal_that_cannot_be_reached_for_is_refused(
    text: str, name: str, rate: float | None, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        goal(text, name, rate)


def trial(rate: float, held: bool, p99: float = 5.0) -> dict[str, object]:
    server = {"cpu_s": 1.0, "requests": 1000}
    return {"rate": rate, "valid": True, "passed": held, "steady": held, "p99_ms": p99, "server": server}


def test_a_tuning_goes_on_from_its_file_and_only_with_the_same_things(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    quest = around(1000.0, 1.3)
    quest.note(trial(1000.0, True))
    Record(path, {"slo": "p99<20ms"}, 12.0, [], [Measured(Candidate(ONE, 8, 0), 1100.0, quest)]).save()
    again = taken_up(path, {"slo": "p99<20ms"}, fresh=False)
    assert again.measured[0].quest.peak() == quest.peak() > 1000
    assert again.seconds == 12.0
    assert not taken_up(path, {"slo": "p99<30ms"}, fresh=False).measured
    assert not taken_up(path, {"slo": "p99<20ms"}, fresh=True).measured


def test_a_trial_that_the_generator_spoiled_is_made_again_at_a_lower_rate() -> None:
    quest, rates = around(1000.0, 1.3), []

    def spoiled(rate: float, number: int) -> dict[str, object]:
        rates.append(rate)
        return {**trial(rate, False), "valid": number > 0}

    quest.step(spoiled)
    quest.step(spoiled)
    assert rates[1] == pytest.approx(0.9 * rates[0])
    assert quest.peak() < 1000


def test_a_choice_that_was_hardly_tried_does_not_win_by_what_is_not_known_of_it(tmp_path: Path) -> None:
    tried, hardly = around(100.0, 1.3), around(105.0, 1.3)
    for rate, held in [(95.0, True), (105.0, False), (98.0, True), (100.0, True)]:
        tried.note(trial(rate, held))
    hardly.note(trial(70.0, True))
    known, other = (Measured(Candidate(ONE, size, 0), None, quest) for size, quest in ((8, tried), (16, hardly)))
    assert hardly.peak() > tried.peak()
    record = Record(tmp_path / "model.json", {}, 0.0, [], [other, known])
    assert best_of(record, goal("p99<20ms", "throughput", None)) is known


def test_a_tuning_of_several_models_goes_on_from_its_file_and_only_with_the_same_things(tmp_path: Path) -> None:
    path, plan = tmp_path / "both.json", (Candidate(ONE, 8, 0), Candidate(ONE, 16, 500))
    first = Search((), path, {"shares": {"a": 0.5}}, 60.0, print, spent=61.0)
    first.tried.append(Tried(plan, around(1000.0, 1.3)))
    first.tried[0].quest.note(trial(1000.0, True))
    first.save()
    again, other = Search((), path, first.about, 60.0, print), Search((), path, {"shares": {"a": 0.9}}, 60.0, print)
    again.take_up()
    other.take_up()
    assert [(one.plan, one.peak()) for one in again.tried] == [(plan, first.tried[0].quest.peak())]
    assert again.over()
    assert not other.tried and not other.over()


@pytest.mark.parametrize(("name", "expected"), [("latency", 5.0), ("cost", 1000.0)])
def test_latency_and_cost_count_only_where_most_trials_hold(name: str, expected: float) -> None:
    wanted: Goal = goal("p99<20ms", name, 100.0)
    one = Measured(Candidate(ONE, 8, 0), None, around(100.0, 1.3))
    one.quest.note(trial(100.0, True))
    assert figure(one, wanted) == pytest.approx(expected)
    one.quest.note(trial(100.0, False))
    assert figure(one, wanted) is None


def test_instances_that_wake_for_the_same_request_do_not_both_take_it() -> None:
    host = replace(QUIET, cores=2.0, front=0.0001, wake=0.0005)
    run = open_loop(host, Candidate(Deployment(4, 1), 8, 0), 3000.0, UNIT[:20_000])
    assert np.isfinite(run.latency).all()
    assert (run.latency > 0.001).all()
    assert run.mean_batch >= 1


def test_no_host_makes_the_twin_lose_a_request_or_step_beyond_its_arrays() -> None:
    # Compiled code checks no bounds: here numba leaves the loop to Python, which does.
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    result = subprocess.run(
        [sys.executable, "-m", "tests.unit.any_host"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
