"""The doctor's rules on recorded observations: each fault is told from health by its figures."""

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.results import SERVER
from tools.doctor.diagnose import changes, diagnose
from tools.doctor.diagnosis import Diagnosis
from tools.doctor.observation import ModelSeen, Seen
from tools.doctor.surroundings import upgrade

CONFIG: dict[str, Any] = {
    "name": "m",
    "backend": "python",
    "max_batch_size": 8,
    "dynamic_batching": {"preferred_batch_size": [8]},
    "instance_group": [{"name": "m", "kind": "KIND_CPU", "count": 1}],
}
MODEL = ModelSeen("m", versions=("1",), config=CONFIG, server=SERVER, queue_us=(20.0, 20.0), waiting=(0, 1, 0))
BUSY = replace(SERVER, busy_instances=0.99, time_us=16_000.0)
STAGES = {"queue_us": 6000.0, "compute_infer_us": 1000.0, "mean_batch": 1.0}
ALONE = replace(
    BUSY,
    counted=replace(BUSY.counted, **STAGES),
    batching=replace(BUSY.batching, max_batch_size=0, dynamic_batching=False),
)
ENSEMBLE = {"name": "e", "platform": "ensemble", "ensemble_scheduling": {"step": [{"model_name": "m"}]}}
FULL = replace(BUSY, counted=replace(BUSY.counted, mean_batch=6.0))
ON_GPU = replace(FULL, batching=replace(FULL.batching, on_gpu=True))


def seen(*models: ModelSeen, **changes: Any) -> Seen:
    return replace(Seen("h:8000", "2.51.0", 5.0, models or (MODEL,)), **changes)


def model(**changes: Any) -> ModelSeen:
    return replace(MODEL, **changes)


def serious(*servers: Seen) -> list[Diagnosis]:
    return [one for one in diagnose(servers) if one.is_serious]


def test_a_healthy_server_gets_notes_at_most() -> None:
    assert serious(seen()) == serious(seen(model(server=None))) == []
    assert serious(seen(), seen(url="h:8010")) == []


@pytest.mark.parametrize(
    ("server", "bound", "words"),
    [
        (seen(model(state="UNAVAILABLE", reason="No module named 'x'", config={})), "unready", "No module named 'x'"),
        (seen(model(server=replace(SERVER, counted=replace(SERVER.counted, failures=50)))), "failures", "5% of all"),
        (seen(model(waiting=(0, 300, 600), queue_us=(5e5, 1.5e6))), "queue growing", "800 arrive per second"),
        (seen(model(waiting=(), queue_us=(5e5, 1.5e6), server=BUSY)), "queue growing", "500,000, then 1,500,000 µs"),
        (seen(model(server=ALONE), ModelSeen("e", config=ENSEMBLE)), "step without batches", "a step of e"),
        (seen(model(server=ALONE)), "without batches", "max_batch_size 0"),
        (seen(model(server=FULL)), "instances", "1 instance(s) are busy for 99%"),
        (seen(model(server=ON_GPU), gpu_share=0.5), "instances", "1 instance(s)"),
        (seen(has_summaries=True), "latency summaries", "nv_inference_request_summary_us"),
        (
            seen(open_apis=("load models", "change the log"), is_loopback=False),
            "admin APIs open",
            "load models, change the log",
        ),
        (seen(model(config=CONFIG | {"dynamic_batching": None})), "batching-unused", "max_batch_size 8"),
    ],
)
def test_a_fault_is_named_first_with_its_figures(server: Seen, bound: str, words: str) -> None:
    first = serious(server)[0]
    assert first.finding.bound == bound
    assert words in str(first)
    assert first.proof and first.finding.change


@pytest.mark.parametrize(
    "server",
    [
        seen(model(state="UNAVAILABLE", reason="unloaded", config={}, server=None)),
        seen(model(state="", config={}, server=None)),
        seen(model(waiting=(0, 12, 3), queue_us=(20.0, 90.0))),
        seen(model(server=ON_GPU), gpu_share=0.95),
        seen(model(server=FULL, callers=4)),
        seen(open_apis=("load models",)),
    ],
)
def test_what_looks_like_a_fault_and_is_none_is_not_called_one(server: Seen) -> None:
    assert serious(server) == []


def test_replicas_that_differ_are_told_apart_by_version_models_and_fields() -> None:
    slow = CONFIG | {"dynamic_batching": {"preferred_batch_size": [8], "max_queue_delay_microseconds": 5000}}
    (first,) = serious(seen(), seen(model(config=slow), ModelSeen("other"), url="h:8010", version="2.73.0"))
    assert first.url == "h:8010" and first.finding.bound == "replicas differ"
    for words in (
        "Triton 2.73.0 for 2.51.0",
        "m: dynamic_batching.max_queue_delay_microseconds 5000 for unset",
        "other is served by one alone",
    ):
        assert words in first.finding.why


def test_the_worst_comes_first_and_then_what_should_pay_most() -> None:
    grows = model(name="g", waiting=(0, 300, 600), queue_us=(5e5, 1.5e6))
    server = seen(model(server=FULL), model(name="s", server=ALONE), grows, has_summaries=True)
    assert [one.finding.bound for one in serious(server)] == [
        "queue growing",
        "without batches",
        "instances",
        "instances",
        "latency summaries",
    ]
    assert len(changes(diagnose([server]))) == 3


def test_an_upgrade_is_told_by_the_configs_that_a_server_uses() -> None:
    cached = model(config=CONFIG | {"response_cache": {"enable": True}})
    found = upgrade(seen(cached))
    assert ("25.09", "mended") in {(one.since, one.kind) for one in found}
    assert ("26.04", "different") in {(one.since, one.kind) for one in found}
    assert upgrade(seen(version="2.73.0")) == []
    assert upgrade(seen(version="2.30.0"))  # Older than any that is known: as from the oldest.
