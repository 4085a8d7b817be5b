"""Triton's own counters of a model as figures."""

from typing import Any

STAGES = ("queue", "compute_input", "compute_infer", "compute_output")


def figures(statistics: dict[str, Any]) -> dict[str, Any]:
    """Summarize the counters of one model version, as JSON; times are mean microseconds per request."""
    counters = statistics.get("inference_stats", {})
    executions = statistics.get("execution_count", 0)
    inferences = statistics.get("inference_count", 0)
    return {
        "requests": counters.get("success", {}).get("count", 0),
        "failures": counters.get("fail", {}).get("count", 0),
        "inferences": inferences,
        "executions": executions,
        "mean_batch": round(inferences / executions, 2) if executions else None,
        **{f"{stage}_us": mean_us(counters.get(stage, {})) for stage in STAGES},
    }


def mean_us(duration: dict[str, int]) -> float | None:
    """The mean of one of Triton's durations, in microseconds; None where there was none."""
    count = duration.get("count", 0)
    return round(duration.get("ns", 0) / count / 1000, 1) if count else None
