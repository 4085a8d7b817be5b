"""Scenarios without a server: what they set, what they refuse, and the figure that comes of a run."""

from typing import Any

import pytest

from clients.client import Client
from clients.errors import InvalidInput
from loadtest import scenarios, slo
from loadtest.direct import given, parser
from loadtest.load import load_of

PLAIN = {"name": "plain", "max_batch_size": 16, "instance_group": [{"count": 3}]}
SMALL = {"name": "small", "max_batch_size": 4, "instance_group": [{"count": 1, "gpus": [0, 1]}]}
ALONE = {"name": "alone", "max_batch_size": 0, "instance_group": [{"count": 1}]}
STEPS = [{"model_name": "plain"}, {"model_name": "small"}, {"model_name": "plain"}]
WHOLE = {"name": "whole", "max_batch_size": 4, "ensemble_scheduling": {"step": STEPS}}
CONFIGS = {one["name"]: one for one in (PLAIN, SMALL, ALONE, WHOLE)}


class Configs(Client):
    """Gives the configs above, and talks to nobody."""

    def __init__(self) -> None:
        pass

    def config(self, model: str) -> dict[str, Any]:
        return CONFIGS[model]  # type: ignore[return-value]


def check(words: str) -> None:
    arguments = given(["plain", *words.split()])
    scenarios.check(arguments, slo.parse(arguments.slo))


def filled(model: str, words: str) -> Any:
    return scenarios.filled(parser().parse_args([model, *words.split()]), Configs())


@pytest.mark.parametrize(
    ("model", "words", "callers", "batch"),
    [
        ("plain", "--scenario single-stream", 1, 1),
        ("alone", "--scenario single-stream", 1, 1),
        ("plain", "--scenario multi-stream", 1, 8),
        ("plain", "--scenario offline", 6, 16),
        ("small", "--scenario offline", 4, 4),
        ("alone", "--scenario offline", 2, 1),
        ("whole", "--scenario offline", 10, 4),
        ("plain", "--scenario server --rate 50", 0, 1),
    ],
)
def test_a_scenario_sets_callers_and_batch_by_the_model(model: str, words: str, callers: int, batch: int) -> None:
    arguments = filled(model, f"{words} --duration 2")
    load = load_of(arguments)
    assert (load.callers, arguments.client_batch) == (callers, batch)
    assert (load.arrivals, load.rate) == ((None, None) if callers else ("poisson", 50))


def test_a_scenario_with_larger_batches_than_the_model_takes_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"sends 8 inferences per request, small takes 4 .*single-stream"):
        filled("small", "--scenario multi-stream")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("single-stream --concurrency 2", "got --concurrency 2, leave it out"),
        ("single-stream --rate 9", "got --rate 9, leave it out"),
        ("multi-stream --client-batch 1", "got --client-batch 1, leave it out"),
        ("multi-stream --arrivals poisson", "got --arrivals poisson, leave it out"),
        ("offline --client-batch 1", "got --client-batch 1, leave it out"),
        ("offline --concurrency 4", "got --concurrency 4, leave it out"),
        ("server --slo p99<1s --rate 9 --arrivals steps", "got --arrivals steps, leave it out"),
        ("server --slo p99<1s --rate 9 --concurrency 1", "got --concurrency 1, leave it out"),
        ("server --slo p99<1s", "expected --rate N.*loadtest.peak plain --slo 'p99<1s'"),
        ("server --rate 9", "expected a percentile's limit in --slo.*got ''"),
        ("server --rate 9 --slo max<1s,errors<1%,p99>1ms", "expected a percentile's limit in --slo"),
    ],
)
def test_options_that_contradict_a_scenario_are_refused_by_name(words: str, named: str) -> None:
    with pytest.raises(InvalidInput, match=f"--scenario {words.split()[0]} .*{named}"):
        check(f"--scenario {words}")


@pytest.mark.parametrize(
    "words",
    [
        "single-stream",
        "single-stream --concurrency 1 --client-batch 1",
        "multi-stream --client-batch 8",
        "server --rate 9 --slo errors<1%,p90<1s --arrivals poisson --client-batch 1",
        "offline --duration 3 --processes 2 --slo rps>5",
    ],
)
def test_options_that_agree_with_a_scenario_may_be_given(words: str) -> None:
    check(f"--scenario {words}")


def document(**changed: Any) -> dict[str, Any]:
    figures = {"p50_ms": 1.0, "p90_ms": 2.5, "p99_ms": 4.0, "error_share": 0.0, "rps": 30.0, "client_batch": 8}
    counts = {"requests": 90, "errors": 0, "answered_in_time": 90, "rate": 50.0, "slo": ["p99<20ms"]}
    return {**figures, **counts, "valid": True, "passed": True, "steady": True, **changed}


@pytest.mark.parametrize(
    ("name", "changed", "ending"),
    [
        ("single-stream", {}, "p90 latency: 2.5 ms"),
        ("multi-stream", {}, "p99 latency: 4 ms"),
        ("multi-stream", {"p99_ms": None}, "not measured: too few answers, lengthen --duration"),
        ("multi-stream", {"p99_ms": None, "errors": 90}, "not measured: no request was answered"),
        ("single-stream", {"valid": False, "p90_ms": None}, "not measured: the run is not valid"),
        ("offline", {}, "throughput: 240.0 inferences per second"),
        ("offline", {"answered_in_time": 19}, "not measured: too few answers, lengthen --duration"),
        ("server", {}, "50/s meets p99<20ms: yes"),
        ("server", {"passed": False, "p99_ms": 30.0}, "50/s meets p99<20ms: no"),
        ("server", {"steady": False}, "50/s meets p99<20ms: no"),
        ("server", {"passed": False, "errors": 90, "p99_ms": None}, "50/s meets p99<20ms: no"),
        ("server", {"passed": False, "p99_ms": None}, "not measured: too few answers, lengthen --duration"),
        ("server", {"passed": False, "p99_ms": None, "error_share": 0.5, "slo": ["p99<20ms", "errors<1%"]}, ": no"),
        ("server", {"valid": False, "passed": False}, "not measured: the run is not valid"),
    ],
)
def test_the_figure_of_a_scenario_is_said_or_why_there_is_none(name: str, changed: Any, ending: str) -> None:
    run = document(**changed)
    run["scenario"] = scenarios.outcome(name, run)
    (line,) = scenarios.sentence(run)
    assert line.startswith(f"Scenario {name}: ") and line.endswith(ending)
    assert (run["scenario"]["value"] is None) == ("not measured" in ending)


def test_a_run_without_a_scenario_says_nothing_of_one() -> None:
    assert scenarios.sentence(document()) == []
