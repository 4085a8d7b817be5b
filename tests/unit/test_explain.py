"""What `--explain` says: each bound is told from the others by the figures of a run."""

from typing import Any

import pytest

from loadtest.explain import documents, explain, words
from loadtest.server_side import Observation, server_side, stages

QUIET = {"queue": 20.0, "compute_input": 10.0, "compute_infer": 400.0, "compute_output": 20.0}
ONE_BY_ONE = {"1": {"executions": 900, "ms": 1.0}, "8": {"executions": 10, "ms": 2.0}}


def run(stages_us: dict[str, float], server: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A run as `direct.measure` gives it, as far as it is looked at."""
    usual = {
        "cpus": 4,
        "instances": 1,
        "busy_instances": 0.3,
        "max_batch_size": 8,
        "mean_batch": 1.0,
        "dynamic_batching": True,
        "queue_delay_us": 0,
        "batches": ONE_BY_ONE,
    }
    document = {"valid": True, "invalid_because": [], "requests": 1000, "error_kinds": {}, "steady": True}
    rates = {"offered_rps": 500.0, "rps": 500.0, "generator": {"requests_per_core_s": 9000}}
    return {**document, **rates, "stages_us": stages_us, "server": {**usual, **server}, **changes}


@pytest.mark.parametrize(
    ("document", "bound", "said"),
    [
        (run(QUIET, {}, valid=False, invalid_because=["late"]), "client", "late"),
        (run(QUIET, {}, error_kinds={"HTTP 503: full": 12}), "errors", "12 of 1,000 requests failed"),
        (run(QUIET, {"busy_instances": 0.99, "dynamic_batching": False}), "batching", "Try dynamic_batching: "),
        (run(QUIET, {"busy_instances": 0.99}), "batching", "×4.0 at batches of 8"),
        (run(QUIET, {"busy_instances": 0.99, "mean_batch": 6.0}), "instances", "up to ×2.0"),
        (
            run(QUIET, {"busy_instances": 3.9, "instances": 4, "mean_batch": 6.0}),
            "compute",
            "as many instances as cores",
        ),
        (run(QUIET, {}, steady=False, rps=200.0), "cores", "200 of 500 requests per second answered"),
        (run(QUIET | {"queue": 5000.0}, {"queue_delay_us": 5000}), "queue delay", "up to 5,000 µs less"),
        # At half of 60 % busy, a wait of 0.6 / 0.4 becomes one of 0.3 / 0.7.
        (run(QUIET | {"queue": 5000.0}, {"busy_instances": 0.6}), "queue", "about 3,571 µs less per request (M/M/1"),
        (run(QUIET, {}), "compute", "215 µs less per request"),
        (run(QUIET | {"network_and_client": 2000.0}, {}), "network", "up to 2,000 µs less"),
    ],
)
def test_the_bound_is_named_with_its_figures(document: dict[str, Any], bound: str, said: str) -> None:
    found = explain(document)
    assert found[0].bound == bound
    assert said in words(documents(found))[0]


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
    found = server_side(before, after, config, seconds=0.1)
    assert (found["requests"], found["queue_us"], found["instances"], found["cpu_s"]) == (100, 100, 2, 2.0)
    assert found["requests_per_core_s"] == 50
    assert found["batches"] == {"1": {"executions": 50, "ms": 0.3}, "4": {"executions": 50, "ms": 0.3}}
    assert found["busy_instances"] == pytest.approx(0.3)  # 100 executions of 0.3 ms in 100 ms
    parts = stages(found, mean_ms=1.0, lag_ms=0.05)
    assert parts["network_and_client"] == 550 and sum(parts.values()) == 1000
