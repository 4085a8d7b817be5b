"""Triton's own counters of a model as figures."""

from dataclasses import dataclass
from typing import Any

STAGES = ("queue", "compute_input", "compute_infer", "compute_output")


@dataclass(frozen=True)
class Counted:
    """What Triton counted of one model; stages in mean microseconds per request, None where there was none."""

    requests: int
    failures: int
    inferences: int
    executions: int
    mean_batch: float | None
    queue_us: float | None
    compute_input_us: float | None
    compute_infer_us: float | None
    compute_output_us: float | None

    def stages(self) -> dict[str, float]:
        """Mean microseconds per request by stage, in the order in which a request passes them."""
        return {stage: getattr(self, f"{stage}_us") or 0.0 for stage in STAGES}


def counted(statistics: dict[str, Any]) -> Counted:
    """Summarize the counters of one model, or of one of its versions."""
    counters = statistics.get("inference_stats", {})
    executions, inferences = statistics.get("execution_count", 0), statistics.get("inference_count", 0)
    return Counted(
        counters.get("success", {}).get("count", 0),
        counters.get("fail", {}).get("count", 0),
        inferences,
        executions,
        round(inferences / executions, 2) if executions else None,
        *(mean_us(counters.get(stage, {})) for stage in STAGES),
    )


def mean_us(duration: dict[str, int]) -> float | None:
    """The mean of one of Triton's durations, in microseconds; None where there was none."""
    count = duration.get("count", 0)
    return round(duration.get("ns", 0) / count / 1000, 1) if count else None
