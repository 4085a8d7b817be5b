"""A run's result to change one figure of: what tests of explanations, scenarios and searches start from."""

from dataclasses import replace
from typing import Any

from clients.statistics import counted
from loadtest import slo
from loadtest.analysis.audit import Audit
from loadtest.analysis.figures import Figures
from loadtest.analysis.intervals import Percentile
from loadtest.analysis.result import RunResult
from loadtest.analysis.server_side import Batching, Executions, ServerSide
from loadtest.load import Load

FIGURES = Figures(
    requests=1000,
    errors=0,
    error_share=0.0,
    error_kinds={},
    answered_in_time=1000,
    offered_rps=500.0,
    rps=500.0,
    good=1000,
    goodput_rps=500.0,
    goodput_share=1.0,
    goodput_limit_ms=20.0,
    mean_ms=1.2,
    max_ms=5.0,
    percentiles={name: Percentile(1.0, 0.9, 1.1, 368, 1000) for name in slo.PERCENTILES},
    curve=[(0, 0.5), (99, 1.0)],
    course=[],
)
SERVER = ServerSide(
    counted=replace(counted({}), requests=1000, mean_batch=1.0),
    batching=Batching(instances=1, max_batch_size=8, dynamic_batching=True, queue_delay_us=0),
    cache_hits=0,
    cache_misses=0,
    busy_instances=0.2,
    batches={1: Executions(900, 1.0), 8: Executions(10, 2.0)},
    members={},
    cpus=4,
    cpu_s=2.0,
    requests_per_core_s=500,
    rejects=None,
    seconds=2.0,
    time_us=450.0,
)
RESULT = RunResult(
    model="model",
    protocol="http",
    url="127.0.0.1:8000",
    load=Load("poisson", 500.0, None, 0, 2.0),
    seed=0,
    client_batch=1,
    payload="samples",
    warm_up_s=0.0,
    started=0.0,
    figures=FIGURES,
    objectives=(),
    generator=Audit(1, 0.1, 9000, {"p50": 0.0, "p99": 0.1, "p99.9": 0.1, "max": 0.1}, 0, 0, ()),
    steady=True,
    server=SERVER,
    stages_us={},
)


def percentiles(**values: float | None) -> dict[str, Percentile]:
    """All percentiles, some of them with other values."""
    return {name: replace(known, value=values.get(name, known.value)) for name, known in FIGURES.percentiles.items()}


def with_problem(result: RunResult, problem: str) -> RunResult:
    """The same run with the generator as its bottleneck."""
    return replace(result, generator=replace(result.generator, problems=(problem,)))


def result(
    figures: dict[str, Any] | None = None,
    server: dict[str, Any] | None = None,
    batching: dict[str, Any] | None = None,
    mean_batch: float = 1.0,
    **changes: Any,
) -> RunResult:
    """A run with some fields changed; by default one that passed."""
    side = replace(
        SERVER,
        counted=replace(SERVER.counted, mean_batch=mean_batch),
        batching=replace(SERVER.batching, **batching or {}),
        **server or {},
    )
    return replace(RESULT, figures=replace(FIGURES, **figures or {}), server=side, **changes)
