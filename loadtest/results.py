"""The outcome of one load test as a plain document: what the client saw beside what the server counted."""

from typing import Any

from locust.env import Environment

from clients.statistics import figures
from loadtest.latencies import Latencies, curve, percentiles
from loadtest.server_statistics import Snapshot
from loadtest.slo import Objective, missed
from loadtest.turns import audit, is_open

Document = dict[str, Any]


def result_of(
    environment: Environment,
    latencies: Latencies,
    counted: Snapshot,
    sources: dict[str, str],
    objectives: list[Objective],
) -> Document:
    """Everything about a run; times in milliseconds for the client, mean microseconds per request for the server."""
    options, stats = environment.parsed_options, environment.stats
    assert options is not None
    seconds = min(duration(environment), options.timetable["seconds"]) if is_open(options) else duration(environment)
    total = {**client_figures(stats.total, seconds), **percentiles(latencies.total())}
    models = {
        model: model_figures(environment, latencies, counted, model, seconds) | {"payload": source}
        for model, source in sources.items()
    }
    failures = missed(objectives, total)
    loop: Document = {"loop": "closed", "valid": True, "invalid_because": []}
    if is_open(options):
        loop = audit(options, latencies.lateness, total["requests"], total["p99_ms"])
    return {
        **loop,
        "protocol": options.protocol,
        "host": environment.host,
        "users": options.num_users,
        "client_batch": options.client_batch,
        "duration_s": round(seconds, 2),
        **total,
        "mean_batch": mean_batch([counted[model] for model in sources if model in counted]),
        "error_kinds": {str(error.error): error.occurrences for error in stats.errors.values()},
        "slo": [objective.text for objective in objectives],
        "slo_missed": failures,
        # A run that answered nothing proves nothing, and one that only failed was no test of speed.
        "passed": loop["valid"] and not failures and total["requests"] > total["errors"],
        "models": models,
        "curve": curve(latencies.total()),
    }


def duration(environment: Environment) -> float:
    """Seconds from the start to the last answer."""
    total = environment.stats.total
    return max(0.001, (total.last_request_timestamp or total.start_time) - total.start_time)


def client_figures(entry: Any, seconds: float) -> Document:
    """Counts and rate of one of Locust's statistics entries."""
    requests, errors = entry.num_requests, entry.num_failures
    return {
        "requests": requests,
        "errors": errors,
        "error_share": errors / requests if requests else None,
        "rps": round((requests - errors) / seconds, 1),
    }


def model_figures(
    environment: Environment, latencies: Latencies, counted: Snapshot, model: str, seconds: float
) -> Document:
    """One model's figures, the client's and the server's."""
    entry = environment.stats.get(model, "POST")
    server = figures(counted[model]) if model in counted else {}
    return {**client_figures(entry, seconds), **percentiles(latencies.histogram(model)), "server": server}


def mean_batch(counted: list[Document]) -> float | None:
    """Inferences per execution over all tested models: the batch size that Triton really formed."""
    executions = sum(one.get("execution_count", 0) for one in counted)
    inferences = sum(one.get("inference_count", 0) for one in counted)
    return round(inferences / executions, 2) if executions else None
