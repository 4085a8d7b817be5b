"""What `--explain` says: each bound is told from the others by the figures of a run."""

from dataclasses import replace
from typing import Any

import pytest

from loadtest.analysis.counters import stages_us
from loadtest.analysis.explain import explain
from loadtest.analysis.predict import Line, line_through, rate
from loadtest.analysis.result import RunResult
from loadtest.analysis.server_side import Executions, Observation, server_side
from tests.unit.results import result, with_problem

QUIET = {"queue": 20.0, "compute_input": 10.0, "compute_infer": 400.0, "compute_output": 20.0}
BUSY = {"busy_instances": 0.99}
# Eight requests are under way: an execution of four of them takes 1.43 ms, of one alone 1 ms.
CROWDED = {**BUSY, "time_us": 16_000.0}
QUEUED = QUIET | {"queue": 6000.0}


def run(stages: dict[str, float] = QUIET, **changes: Any) -> RunResult:
    return result(stages_us=stages, **changes)


@pytest.mark.parametrize(
    ("measured", "bound", "words"),
    [
        (with_problem(run(), "late"), "client", "late"),
        (run(figures={"error_kinds": {"HTTP 503: full": 12}}), "errors", "12 of 1,000 requests failed"),
        (run(QUEUED, server=CROWDED, batching={"dynamic_batching": False}), "batching", "Try dynamic_batching: "),
        (run(QUEUED, server=CROWDED), "batching", "×2.8, 500 to 1,400 requests per second (an execution of b"),
        (run(QUEUED, server={**BUSY, "seconds": 0.0}), "batching", "×4.0 at batches of 8"),
        # At 99 % busy, arrivals by chance would wait 0.99 / 0.01 / 2 executions.
        (run(server=BUSY), "callers in turn", "arrivals by chance would wait 21,285"),
        (run(server={"busy_instances": 0.5, "batches": {1: Executions(900, 1.0)}}), "callers in turn", "500 to 1,000"),
        (run(server=BUSY, mean_batch=6.0), "instances", "up to ×2.0"),
        # An instance that is busy uses a whole core, and 0.3 are idle.
        (run(server={**BUSY, "idle_cores": 0.3, "instance_cores": 0.9}, mean_batch=6.0), "compute", "no time left"),
        (
            run(server={**BUSY, "idle_cores": 0.3, "instance_cores": 0.1}, mean_batch=6.0),
            "instances",
            "0.3 of 4 cores are idle",
        ),
        (
            run(QUEUED, server={"busy_instances": 7.5, "idle_cores": 0.1}, batching={"instances": 8}),
            "too many instances",
            "7.5 of 8 instances are busy at once on 4 cores",
        ),
        (
            run(QUEUED, server={"batches": {2: Executions(90, 1.0)}}, batching={"preferred": (2, 4)}),
            "preferred sizes",
            "100% of the executions have a preferred size (2, 4)",
        ),
        # Of 100 lookups none hits, at 90 µs each.
        (run(server={"cache_misses": 100, "cache_miss_us": 90.0}), "response cache", "×1.2, 450 to 360 µs"),
        (
            run(server={"busy_instances": 3.9}, batching={"instances": 4}, mean_batch=6.0),
            "compute",
            "its cores have no time left",
        ),
        (run(figures={"rps": 200.0}, steady=False), "cores", "200 of 500 requests per second answered"),
        (run(QUIET | {"queue": 5000.0}, batching={"queue_delay_us": 5000}), "queue delay", "up to 5,000 µs less"),
        # At half of 60 % busy, a wait of 0.6 / 0.4 becomes one of 0.3 / 0.7.
        (
            run(QUIET | {"queue": 5000.0}, server={"busy_instances": 0.6}),
            "queue",
            "about 3,571 µs less per request (M/M/1",
        ),
        (run(), "compute", "215 µs less per request"),
        (run(QUIET | {"network_and_client": 2000.0}), "network", "up to 2,000 µs less"),
    ],
)
def test_the_bound_is_named_with_its_figures(measured: RunResult, bound: str, words: str) -> None:
    findings = explain(measured)
    assert findings[0].bound == bound
    assert words in str(findings[0])


def test_a_cache_whose_hits_save_more_than_it_costs_is_no_bound() -> None:
    hits = {"cache_hits": 900, "cache_misses": 100, "cache_hit_us": 10.0, "cache_miss_us": 90.0}
    measured = run(server=hits)
    counted = replace(measured.server.counted, compute_infer_us=400.0)
    measured = replace(measured, server=replace(measured.server, counted=counted))
    assert [finding.bound for finding in explain(measured)] == ["compute"]


def test_the_line_through_times_and_the_rate_of_callers_follow_their_laws() -> None:
    line = line_through({1: Executions(10, 1.0), 5: Executions(10, 1.4)})
    assert line and (line.fixed_us, line.each_us) == (pytest.approx(900), pytest.approx(100))
    assert line_through({1: Executions(10, 1.0)}) is None
    fixed = Line(1000, 0)
    # One instance and eight callers: four are computed while four wait. Alone, a caller also waits for itself.
    assert rate(8, 1, 16, fixed) == pytest.approx(4000)
    assert rate(8, 1, 1, fixed) == pytest.approx(1000)
    assert rate(8, 3, 1, fixed) == pytest.approx(3000)


def counters(count: int, batches: dict[str, int]) -> dict[str, Any]:
    """A model's counters after so many requests and executions; every stage takes 100 µs."""
    stage = {"count": count, "ns": count * 100_000}
    names = ("success", "queue", "compute_input", "compute_infer", "compute_output")
    sizes = {
        size: {name: {"count": runs, "ns": runs * 100_000} for name in names[2:]} for size, runs in batches.items()
    }
    return {"inference_stats": dict.fromkeys(names, stage), "batch_stats": sizes}


def test_the_servers_side_is_what_it_counted_in_between() -> None:
    before = Observation({"m": counters(10, {"1": 10})}, 1.0)
    after = Observation({"m": counters(110, {"1": 60, "4": 50})}, 3.0)
    config = {"name": "m", "instance_group": [{"count": 2}], "max_batch_size": 4, "dynamic_batching": {}}
    server = server_side(before, after, config, seconds=0.1)
    assert (server.counted.requests, server.counted.queue_us) == (100, 100)
    assert (server.batching.instances, server.cpu_s) == (2, 2.0)
    assert server.requests_per_core_s == 50
    assert server.batches == {1: Executions(50, 0.3), 4: Executions(50, 0.3)}
    assert server.document()["batches"] == {1: {"executions": 50, "ms": 0.3}, 4: {"executions": 50, "ms": 0.3}}
    assert server.busy_instances == pytest.approx(0.3)  # 100 executions of 0.3 ms in 100 ms
    parts = stages_us(server.counted, mean_ms=1.0, lag_ms=0.05)
    assert parts["network_and_client"] == 550 and sum(parts.values()) == 1000
