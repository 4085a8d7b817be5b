"""The server's side of a direct run: where a request's time went, which batches were formed, how busy it was."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clients.client import Client
from clients.statistics import STAGES, figures
from loadtest.host_process import cpu_seconds
from loadtest.rejects import Scrape, rejects, scrape
from loadtest.server_statistics import Snapshot, difference, snapshot

Document = dict[str, Any]
LOCAL = ("127.0.0.1", "localhost", "[::1]")
COMPUTE = ("compute_input", "compute_infer", "compute_output")


@dataclass(frozen=True)
class Observation:
    """Triton's cumulative counters, the processor seconds of its processes (None: not on this host), its metrics."""

    counters: Snapshot
    cpu_s: float | None
    metrics: Scrape | None = None


def observe(client: Client, metrics: str | None = None) -> Observation:
    """Look at the server now; `metrics` is the address of its metrics endpoint, where that is to be asked.

    Raises:
        ClientError: it does not answer.
    """
    host, _, port = client.connection.url.partition("/")[0].rpartition(":")
    cpu_s = cpu_seconds(int(port)) if host in LOCAL else None
    return Observation(snapshot(client), cpu_s, scrape(metrics) if metrics else None)


def server_side(before: Observation, after: Observation, config: Document, seconds: float) -> Document:
    """What the server did in between.

    Args:
        before: at the beginning.
        after: at the end.
        config: the model's, as the server has it.
        seconds: for which there were requests.

    Returns:
        Counters, mean microseconds per request and stage, milliseconds and count of executions by batch size, how many
        instances there are and how many were busy on average, requests per core-second, what was rejected; for an
        ensemble its members'.
    """
    counted = difference(before.counters, after.counters)
    own = counted.get(config["name"], {})
    found = {**figures(own), **cache(own), **batching(config), **executions(own, seconds)}
    members = {step["model_name"] for step in config.get("ensemble_scheduling", {}).get("step", ())}
    used = used_s(before, after)
    return {
        **found,
        "members": {name: figures(counted[name]) for name in sorted(members & counted.keys())},
        # A server elsewhere has other cores than this host.
        "cpus": None if used is None else os.cpu_count(),
        "cpu_s": None if used is None else round(used, 2),
        "requests_per_core_s": round(found["requests"] / used) if used else None,
        "rejects": rejects(before.metrics, after.metrics, {config["name"], *members}),
    }


def used_s(before: Observation, after: Observation) -> float | None:
    """Processor seconds in between; None where they cannot be known: a process that ends takes its count with it."""
    if before.cpu_s is None or after.cpu_s is None or after.cpu_s < before.cpu_s:
        return None
    return after.cpu_s - before.cpu_s


def cache(own: Document) -> Document:
    """Hits and misses of the response cache."""
    counters = own.get("inference_stats", {})
    return {f"cache_{what}": counters.get(f"cache_{one}", {}).get("count", 0) for what, one in CACHE.items()}


CACHE = {"hits": "hit", "misses": "miss"}


def batching(config: Document) -> Document:
    """What the config says about batches and instances; gRPC gives large numbers as texts and leaves zeros out."""
    dynamic = config.get("dynamic_batching")
    return {
        # `count` is per GPU.
        "instances": sum(
            int(group.get("count", 1)) * max(1, len(group.get("gpus", ())))
            for group in config.get("instance_group", ())
        ),
        "max_batch_size": int(config.get("max_batch_size", 0)),
        "dynamic_batching": dynamic is not None,
        "queue_delay_us": int((dynamic or {}).get("max_queue_delay_microseconds", 0)),
    }


def executions(own: Document, seconds: float) -> Document:
    """Executions by batch size, and how many instances they kept busy on average."""
    sizes = {int(size): one for size, one in own.get("batch_stats", {}).items() if runs(one)}
    busy = sum(nanoseconds(one) for one in sizes.values()) / 1e9
    return {
        "busy_instances": round(busy / seconds, 3) if seconds else None,
        "batches": {
            str(size): {"executions": runs(one), "ms": round(nanoseconds(one) / runs(one) / 1e6, 4)}
            for size, one in sorted(sizes.items())
        },
    }


def runs(one: Mapping[str, Any]) -> int:
    """How often batches of one size were executed."""
    return int(one.get("compute_infer", {}).get("count", 0))


def nanoseconds(one: Mapping[str, Any]) -> int:
    """How long an instance was occupied by batches of one size."""
    return sum(int(one.get(stage, {}).get("ns", 0)) for stage in COMPUTE)


def stages(server: Document, mean_ms: float | None, lag_ms: float) -> Document:
    """Mean microseconds of a request by stage, which add up to the client's mean: what no side counted is the way.

    Args:
        server: from `server_side`.
        mean_ms: the client's mean latency.
        lag_ms: by how much the generator itself was late on average.
    """
    if mean_ms is None:
        return {}
    parts = {stage: server.get(f"{stage}_us") or 0.0 for stage in STAGES}
    rest = mean_ms * 1000 - sum(parts.values()) - lag_ms * 1000
    return {**parts, "network_and_client": round(max(0.0, rest), 1), "generator": round(lag_ms * 1000, 1)}
