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
    apply_candidate,
    candidate_from,
    candidate_of,
    deployments,
    search_space,
)
from tools.tune.fitting import Observation, fit, simulate
from tools.tune.goal import parse_goal
from tools.tune.joint import JointSearch
from tools.tune.prediction import arrivals, peak, rank, shortlist
from tools.tune.race import best_contender
from tools.tune.record import Calibration, Contender, Record, resume
from tools.tune.trials import ServerSide, Trial, join_trials, search_around
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
    fitted = fit([simulate(host, choice, run, unit) for run in asked], choice, 2.0)
    wanted = parse_goal("p99<20ms")
    assert fitted.rps_error < 0.05
    for other in (Candidate(ONE, 8, 0), Candidate(ONE, 64, 1000)):
        mine, its = peak(fitted.host, other, wanted, arrivals()), peak(host, other, wanted, arrivals())
        assert mine is not None
        assert its is not None
        assert mine == pytest.approx(its, rel=0.15)


def test_the_best_choices_come_first_and_the_present_one_is_always_measured() -> None:
    host = Host(2.0, 0.0, 25e-6, 0.0, 1e-3, 1e-5, 0.0, 0.0, 0.05, 0.0, 0.0, 0.0)
    base = Candidate(ONE, 64, 0)
    wanted = parse_goal("p99<20ms")
    choices = [base, Candidate(ONE, 1, 0), Candidate(ONE, 16, 0)]
    ranked = rank({ONE: host}, choices, wanted)
    assert [prediction.candidate for prediction in ranked] == [base, Candidate(ONE, 16, 0), Candidate(ONE, 1, 0)]
    assert shortlist(ranked, Candidate(ONE, 1, 0), 2) == [Candidate(ONE, 1, 0), base]


def test_of_a_deployment_that_is_far_behind_nothing_is_measured() -> None:
    good = Host(2.0, 0.0, 25e-6, 0.0, 1e-3, 1e-5, 0.0, 0.0, 0.05, 0.0, 0.0, 0.0)
    bad, fair = Deployment(1, 2), Deployment(2, 1)
    hosts = {ONE: good, fair: good, bad: replace(good, each=1e-3)}
    choices = [Candidate(deployment, size, 0) for deployment in hosts for size in (8, 64)]
    chosen = shortlist(rank(hosts, choices, parse_goal("p99<20ms")), Candidate(bad, 64, 0), 9)
    assert chosen[0] == Candidate(bad, 64, 0)
    assert set(chosen[1:3]) == {Candidate(ONE, 64, 0), Candidate(fair, 64, 0)}
    assert Candidate(bad, 8, 0) not in chosen[:5]


def test_nothing_is_ranked_that_cannot_keep_to_the_objective() -> None:
    assert not rank({ONE: QUIET}, [Candidate(ONE, 4, 0)], parse_goal("p99<0.5ms"))


def test_deployments_do_not_exceed_the_cores() -> None:
    assert deployments(2, gpu=False) == [Deployment(2, 1), Deployment(1, 2), ONE]
    assert all(each.instances * each.threads <= 6 for each in deployments(6, gpu=False))
    assert {each.threads for each in deployments(6, gpu=True)} == {1}


def test_the_space_holds_the_present_choice_and_nothing_larger_than_was_proven() -> None:
    base = Candidate(Deployment(3, 1), 48, 123)
    candidates = search_space(base, [ONE], 20.0, 4)
    assert base in candidates
    assert {candidate.max_batch_size for candidate in candidates} == {4, 8, 16, 32, 48}
    assert max(candidate.delay_us for candidate in candidates) == 10_000


def test_a_choice_is_written_into_a_config_and_read_out_of_it() -> None:
    config = read_config("mnist_mlp", repository=REPOSITORY)
    choice = Candidate(Deployment(2, 3), 16, 700, (8,))
    changed = apply_candidate(choice, config)
    assert candidate_of(changed) == choice
    assert candidate_from(json.loads(json.dumps(choice.document()))) == choice
    assert max(warmup.batch_size for warmup in changed.model_warmup) == 16
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
        parse_goal(text, name, rate)


def trial(rate: float, held: bool, p99: float | None = 5.0) -> Trial:
    latencies = {"p50": None, "p90": None, "p95": None, "p99": p99, "p99.9": None}
    return Trial(rate, True, held, held, latencies, ServerSide(cpu_s=1.0, requests=1000))


def test_a_tuning_resumes_from_its_file_and_only_under_the_same_conditions(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    search = search_around(1000.0, 1.3)
    search.note(trial(1000.0, True))
    calibration = Calibration(Candidate(ONE, 64, 0), (trial(900.0, False),))
    contender = Contender((Candidate(ONE, 8, 0),), search, 1100.0)
    Record(path, {"slo": "p99<20ms"}, 12.0, [calibration], [contender]).save()
    again = resume(path, {"slo": "p99<20ms"})
    assert again.contenders[0].search.peak() == search.peak() > 1000
    assert again.contenders[0].search.trials == search.trials and again.contenders[0].plan == contender.plan
    assert again.calibrations == [calibration]
    assert again.seconds == 12.0
    assert not resume(path, {"slo": "p99<30ms"}).contenders
    assert not resume(path, {"slo": "p99<20ms"}, fresh=True).contenders


def test_a_file_of_an_earlier_release_is_resumed(tmp_path: Path) -> None:
    server = {"mean_batch": 4.0, "queue_us": 1.0, "batches": {}, "busy_instances": 0.5, "cpu_s": 1.0, "requests": 90}
    figures = {"requests": 80, "errors": 0, "p50_ms": 1.0, "p90_ms": 2.0, "p95_ms": 3.0, "p99_ms": 4.0, "mean_ms": 1.5}
    verdicts = {"rps": 40.0, "duration_s": 2.0, "valid": True, "passed": True, "steady": True, "sender_us": 20.0}
    run = {"rate": 40.0, "concurrency": None, **figures, **verdicts, "server": server}
    candidate = Candidate(ONE, 8, 0).document()
    search = {"start": [40.0, 1.3], "peak_rps": 41.0, "low_rps": 30.0, "high_rps": 50.0}
    alone = {"candidate": candidate, "predicted": None, **search, "trials": [run]}
    choice = {"choice": candidate, "runs": [{**run, "server_rps": 45.0}]}
    about = {"slo": "p99<20ms"}
    single = {"about": about, "seconds": 1.0, "calibrations": [choice], "measured": [alone]}
    joint_run = {"rate": 80.0, "valid": True, "passed": True, "steady": True, "parts": [run, {**run, "p99_ms": 9.0}]}
    together = {"plan": [candidate, candidate], **search, "trials": [joint_run]}
    shares = {"shares": {"a": 0.5, "b": 0.5}}
    joint = {"about": shares, "seconds": 1.0, "tried": [together]}
    for name, document in (("single", single), ("joint", joint)):
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    record = resume(tmp_path / "single.json", about)
    assert record.calibrations[0].runs[0].server_rps == 45.0
    (known,) = record.contenders[0].search.trials
    assert known.latency_ms["p99"] == 4.0 and known.is_sustained and known.server.requests == 90
    (known,) = resume(tmp_path / "joint.json", shares).contenders[0].search.trials
    assert known.latency_ms["p99"] == 9.0 and known.is_sustained and known.parts[0].rate == 40.0


def test_a_joint_trial_is_as_bad_as_its_worst_part() -> None:
    assert join_trials(300.0, [trial(100.0, True), trial(200.0, True, p99=7.0)]).latency_ms["p99"] == 7.0
    assert join_trials(300.0, [trial(100.0, True), trial(200.0, True)]).is_sustained
    assert not join_trials(300.0, [trial(100.0, True), trial(200.0, False)]).is_sustained
    assert join_trials(300.0, [trial(100.0, True), trial(200.0, True, p99=None)]).latency_ms["p99"] is None


def test_a_trial_that_the_generator_spoiled_is_repeated_at_a_lower_rate() -> None:
    search, rates = search_around(1000.0, 1.3), []

    def spoiled(rate: float, number: int) -> Trial:
        rates.append(rate)
        return replace(trial(rate, False), valid=number > 0)

    search.step(spoiled)
    search.step(spoiled)
    assert rates[1] == pytest.approx(0.9 * rates[0])
    assert search.peak() < 1000


def test_a_choice_with_few_trials_does_not_win_by_its_uncertainty(tmp_path: Path) -> None:
    tried, hardly = search_around(100.0, 1.3), search_around(105.0, 1.3)
    for rate, held in [(95.0, True), (105.0, False), (98.0, True), (100.0, True)]:
        tried.note(trial(rate, held))
    hardly.note(trial(70.0, True))
    known, other = (Contender((Candidate(ONE, size, 0),), search) for size, search in ((8, tried), (16, hardly)))
    assert hardly.peak() > tried.peak()
    record = Record(tmp_path / "model.json", {}, contenders=[other, known])
    assert best_contender(record, parse_goal("p99<20ms")) is known


def test_a_joint_tuning_resumes_from_its_file_and_only_under_the_same_conditions(tmp_path: Path) -> None:
    path, plan, wanted = tmp_path / "both.json", (Candidate(ONE, 8, 0), Candidate(ONE, 16, 500)), parse_goal("p99<20ms")
    first = Record(path, {"shares": {"a": 0.5}}, 61.0, contenders=[Contender(plan, search_around(1000.0, 1.3))])
    first.contenders[0].search.note(trial(1000.0, True))
    first.save()
    again, other = resume(path, first.conditions), resume(path, {"shares": {"a": 0.9}})
    assert [(contender.plan, contender.figure(wanted)) for contender in again.contenders] == [
        (plan, first.contenders[0].search.peak())
    ]
    assert JointSearch((), wanted, again, 60.0).is_over()
    assert not other.contenders and not JointSearch((), wanted, other, 60.0).is_over()


@pytest.mark.parametrize(("name", "expected"), [("latency", 5.0), ("cost", 1000.0)])
def test_latency_and_cost_count_only_where_most_trials_are_sustained(name: str, expected: float) -> None:
    wanted = parse_goal("p99<20ms", name, 100.0)
    contender = Contender((Candidate(ONE, 8, 0),), search_around(100.0, 1.3))
    contender.search.note(trial(100.0, True))
    assert contender.figure(wanted) == pytest.approx(expected)
    contender.search.note(trial(100.0, False))
    assert contender.figure(wanted) is None


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
