"""What a tuner chooses from, writes and remembers; the server's side is in tests/e2e."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from loadtest.slo import SloError
from tools.repository import REPOSITORY, read_config
from tools.tune.candidates import (
    Candidate,
    Deployment,
    TuningError,
    apply_candidate,
    candidate_from,
    candidate_of,
    deployments,
    grid,
)
from tools.tune.goal import parse_goal
from tools.tune.race import best_contender
from tools.tune.record import Contender, Record, resume
from tools.tune.trials import Trial, join_trials, search_around

ONE = Deployment(1, 1)


def test_deployments_do_not_exceed_the_cores() -> None:
    assert deployments(2, gpu=False) == [Deployment(2, 1), Deployment(1, 2), ONE]
    assert all(each.instances * each.threads <= 6 for each in deployments(6, gpu=False))
    assert {each.threads for each in deployments(6, gpu=True)} == {1}


def test_the_grid_begins_with_the_present_choice_and_holds_nothing_larger_than_was_proven() -> None:
    base = Candidate(Deployment(3, 1), 48, 123)
    candidates = grid(base, [ONE], 20.0, 4)
    assert candidates[:2] == [base, Candidate(ONE, 48, 0)]
    assert {candidate.max_batch_size for candidate in candidates} == {4, 12, 48}
    assert {candidate.delay_us for candidate in candidates[1:]} == {0, 200, 1000, 5000}
    assert len(set(candidates)) == len(candidates)


def test_delays_follow_the_latency_limit() -> None:
    delays = {candidate.delay_us for candidate in grid(Candidate(ONE, 8, 0), [ONE], 400.0)}
    assert delays == {0, 1000, 5000, 20_000, 100_000}


def test_a_choice_is_written_into_a_config_and_read_out_of_it() -> None:
    config = read_config("mnist_mlp", repository=REPOSITORY)
    choice = Candidate(Deployment(2, 3), 16, 700, (8,))
    changed = apply_candidate(choice, config)
    assert candidate_of(changed) == choice
    assert candidate_from(json.loads(json.dumps(asdict(choice)))) == choice
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
    return Trial(rate, True, held, held, latencies, cpu_us=1000.0)


def test_a_tuning_resumes_from_its_file_and_only_under_the_same_conditions(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    search = search_around(1000.0, 1.3)
    search.note(trial(1000.0, True))
    contender = Contender((Candidate(ONE, 8, 0),), search)
    first = replace(resume(path, {"slo": "p99<20ms"}), seconds=12.0, contenders=[contender])
    first.save()
    again = resume(path, {"slo": "p99<20ms"})
    assert again.contenders[0].search.peak() == search.peak() > 1000
    assert again.contenders[0].search.trials == search.trials and again.contenders[0].plan == contender.plan
    assert again.seconds == 12.0
    assert not resume(path, {"slo": "p99<30ms"}).contenders
    assert not resume(path, {"slo": "p99<20ms"}, fresh=True).contenders


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
    first = replace(resume(path, {"shares": {"a": 0.5}}), seconds=61.0)
    first.contenders.append(Contender(plan, search_around(1000.0, 1.3)))
    first.contenders[0].search.note(trial(1000.0, True))
    first.save()
    again, other = resume(path, {"shares": {"a": 0.5}}), resume(path, {"shares": {"a": 0.9}})
    assert [(contender.plan, contender.figure(wanted)) for contender in again.contenders] == [
        (plan, first.contenders[0].search.peak())
    ]
    assert again.seconds == 61.0 and not other.contenders


@pytest.mark.parametrize(("name", "expected"), [("latency", 5.0), ("cost", 1000.0)])
def test_latency_and_cost_count_only_where_most_trials_are_sustained(name: str, expected: float) -> None:
    wanted = parse_goal("p99<20ms", name, 100.0)
    contender = Contender((Candidate(ONE, 8, 0),), search_around(100.0, 1.3))
    contender.search.note(trial(100.0, True))
    assert contender.figure(wanted) == pytest.approx(expected)
    contender.search.note(trial(100.0, False))
    assert contender.figure(wanted) is None
