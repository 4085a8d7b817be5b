"""Scenarios without a server: what they set, what they refuse, and the figure that comes of a run."""

from dataclasses import replace
from typing import Any

import pytest

from clients.client import Client
from clients.errors import InvalidInput
from loadtest import slo
from loadtest.analysis.result import RunResult
from loadtest.analysis.scenarios import apply_scenario, check_scenario, scenario_figure
from loadtest.load import Load, LoadOptions
from loadtest.report.run_report import scenario_sentence
from loadtest.run import parse
from tests.unit.results import percentiles, result, with_problem

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


def apply(model: str, words: str) -> LoadOptions:
    scenario, *options = words.split()
    _, given = parse([model, "--scenario", scenario, *options])
    return apply_scenario(scenario, model, given, Configs())


def check(words: str) -> None:
    arguments, given = parse(["plain", "--scenario", *words.split()])
    check_scenario(arguments.scenario, "plain", given, slo.parse(arguments.slo))


@pytest.mark.parametrize(
    ("model", "words", "callers", "batch"),
    [
        ("plain", "single-stream", 1, 1),
        ("alone", "single-stream", 1, 1),
        ("plain", "multi-stream", 1, 8),
        ("plain", "offline", 6, 16),
        ("small", "offline", 4, 4),
        ("alone", "offline", 2, 1),
        ("whole", "offline", 10, 4),
        ("plain", "server --rate 50", 0, 1),
    ],
)
def test_a_scenario_sets_callers_and_batch_by_the_model(model: str, words: str, callers: int, batch: int) -> None:
    options = apply(model, f"{words} --duration 2")
    load = options.load(seed=0)
    assert (load.callers, options.client_batch) == (callers, batch)
    assert (load.arrivals, load.rate) == ((None, None) if callers else ("poisson", 50))


def test_a_scenario_with_larger_batches_than_the_model_takes_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"sends 8 inferences per request, small takes 4 .*single-stream"):
        apply("small", "multi-stream")


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
        check(words)


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
    check(words)


def run(slo_text: str = "p99<20ms", invalid: bool = False, **changed: Any) -> RunResult:
    """A run of 90 requests in the server scenario's load, with some figures changed."""
    values: dict[str, float | None] = {"p50": 1.0, "p90": 2.5, "p99": changed.pop("p99", 4.0)}
    steady = changed.pop("steady", True)
    counts = {"requests": 90, "answered_in_time": 90, "rps": 30.0, "percentiles": percentiles(**values), **changed}
    load, objectives = Load("poisson", 50.0, None, 0, 3.0), tuple(slo.parse(slo_text))
    measured = result(figures=counts, load=load, objectives=objectives, client_batch=8, steady=steady)
    return with_problem(measured, "late") if invalid else measured


@pytest.mark.parametrize(
    ("name", "measured", "ending"),
    [
        ("single-stream", run(), "p90 latency: 2.5 ms"),
        ("multi-stream", run(), "p99 latency: 4 ms"),
        ("multi-stream", run(p99=None), "not measured: too few answers, lengthen --duration"),
        ("multi-stream", run(p99=None, errors=90), "not measured: no request was answered"),
        ("single-stream", run(invalid=True), "not measured: the run is not valid"),
        ("offline", run(), "throughput: 240.0 inferences per second"),
        ("offline", run(answered_in_time=19), "not measured: too few answers, lengthen --duration"),
        ("server", run(), "50/s meets p99<20ms: yes"),
        ("server", run(p99=30.0), "50/s meets p99<20ms: no"),
        ("server", run(steady=False), "50/s meets p99<20ms: no"),
        ("server", run(errors=90, p99=None), "50/s meets p99<20ms: no"),
        ("server", run(p99=None), "not measured: too few answers, lengthen --duration"),
        ("server", run("p99<20ms,errors<1%", p99=None, error_share=0.5), ": no"),
        ("server", run(invalid=True), "not measured: the run is not valid"),
    ],
)
def test_a_scenario_reports_its_figure_or_why_there_is_none(name: str, measured: RunResult, ending: str) -> None:
    figure = scenario_figure(name, measured)
    (line,) = scenario_sentence(replace(measured, scenario=figure))
    assert line.startswith(f"Scenario {name}: ") and line.endswith(ending)
    assert (figure.value is None) == ("not measured" in ending)


def test_a_run_without_a_scenario_reports_none() -> None:
    assert scenario_sentence(run()) == []
