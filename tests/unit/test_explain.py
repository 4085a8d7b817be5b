"""What `--explain` says: each bound is told from the others by the figures of a run."""

from typing import Any

import pytest

from loadtest.analysis.counters import stages_us
from loadtest.analysis.explain import explain
from loadtest.analysis.result import RunResult
from loadtest.analysis.server_side import Executions, Observation, server_side
from tests.unit.results import result, with_problem

QUIET = {"queue": 20.0, "compute_input": 10.0, "compute_infer": 400.0, "compute_output": 20.0}
BUSY = {"busy_instances": 0.99}


def run(stages: dict[str, float] = QUIET, **changes: Any) -> RunResult:
    return result(stages_us=stages, **changes)


@pytest.mark.parametrize(
    ("measured", "bound", "words"),
    [
        (with_problem(run(), "late"), "client", "late"),
        (run(figures={"error_kinds": {"HTTP 503: full": 12}}), "errors", "12 of 1,000 requests failed"),
        (run(server=BUSY, batching={"dynamic_batching": False}), "batching", "Try dynamic_batching: "),
        (run(server=BUSY), "batching", "×4.0 at batches of 8"),
        (run(server=BUSY, mean_batch=6.0), "instances", "up to ×2.0"),
        (
            run(server={"busy_instances": 3.9}, batching={"instances": 4}, mean_batch=6.0),
            "compute",
            "as many instances as cores",
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
