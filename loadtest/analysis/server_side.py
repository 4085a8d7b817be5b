"""The server's side of a run: where a request's time went, which batches were formed, how busy the server was."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from clients.client import Client
from loadtest.analysis.counters import Counted, Snapshot, counted, difference, snapshot
from loadtest.analysis.rejects import Rejects, Scrape, rejects, scrape

_LOCAL = ("127.0.0.1", "localhost", "[::1]")
_COMPUTE = ("compute_input", "compute_infer", "compute_output")


@dataclass(frozen=True)
class Observation:
    """Triton's cumulative counters, the CPU seconds of its processes (None: not on this host), its metrics."""

    counters: Snapshot
    cpu_s: float | None
    metrics: Scrape | None = None


@dataclass(frozen=True)
class Batching:
    """What a model's config says about instances and batches."""

    instances: int
    max_batch_size: int
    dynamic_batching: bool
    queue_delay_us: int


@dataclass(frozen=True)
class Executions:
    """The number of executions at one batch size, and their mean milliseconds."""

    executions: int
    ms: float


@dataclass(frozen=True)
class ServerSide:
    """What the server did during a run.

    Attributes:
        counted: the model's own counters; `members` has those of an ensemble's members by name.
        busy_instances: mean number of instances that were executing.
        batches: executions by batch size.
        cpus: cores of this host; None where the server is elsewhere, as for its CPU seconds.
        rejects: None where its metrics were not asked for.
    """

    counted: Counted
    batching: Batching
    cache_hits: int
    cache_misses: int
    busy_instances: float | None
    batches: dict[int, Executions]
    members: dict[str, Counted]
    cpus: int | None
    cpu_s: float | None
    requests_per_core_s: int | None
    rejects: Rejects | None
    version: str | None = None

    def busy_share(self) -> float | None:
        """Share of the time during which the instances were executing; None where it is unknown."""
        if self.busy_instances is None or not self.batching.instances:
            return None
        return self.busy_instances / self.batching.instances

    def document(self) -> dict[str, Any]:
        """As JSON."""
        document = asdict(self)
        return {**document.pop("counted"), **document.pop("batching"), **document}


def observe(client: Client, metrics: str | None = None) -> Observation:
    """Read the server's counters now; `metrics` is the address of its metrics endpoint, where that is wanted.

    Raises:
        ClientError: it does not answer.
    """
    host, _, port = client.connection.url.partition("/")[0].rpartition(":")
    cpu_s = _cpu_seconds(int(port)) if host in _LOCAL else None
    return Observation(snapshot(client), cpu_s, scrape(metrics) if metrics else None)


def _cpu_seconds(port: int) -> float | None:
    """CPU seconds so far of the process that listens on a port, and its descendants; None where they are unknown."""
    import psutil

    try:
        sockets = (socket for socket in psutil.net_connections("tcp") if socket.status == psutil.CONN_LISTEN)
        pid = next((socket.pid for socket in sockets if socket.laddr.port == port), None)
        if pid is None:
            return None
        server = psutil.Process(pid)
        times = [process.cpu_times() for process in (server, *server.children(recursive=True))]
    except psutil.Error:
        return None  # It ended, or belongs to another user.
    return float(sum(time.user + time.system for time in times))


def server_side(
    before: Observation, after: Observation, config: dict[str, Any], seconds: float, version: str | None = None
) -> ServerSide:
    """Compare observations at the start and the end of a run of some seconds; `config` is the model's."""
    counters = difference(before.counters, after.counters)
    own = counters.get(config["name"], {})
    figures, used = counted(own), _used_s(before, after)
    members = {step["model_name"] for step in config.get("ensemble_scheduling", {}).get("step", ())}
    sizes = {int(size): entry for size, entry in own.get("batch_stats", {}).items() if _runs(entry)}
    return ServerSide(
        counted=figures,
        batching=batching(config),
        cache_hits=_cache(own, "hit"),
        cache_misses=_cache(own, "miss"),
        busy_instances=round(sum(map(_nanoseconds, sizes.values())) / 1e9 / seconds, 3) if seconds else None,
        batches={size: _executions(entry) for size, entry in sorted(sizes.items())},
        members={name: counted(counters[name]) for name in sorted(members & counters.keys())},
        cpus=None if used is None else os.cpu_count(),
        cpu_s=None if used is None else round(used, 2),
        requests_per_core_s=round(figures.requests / used) if used else None,
        rejects=rejects(before.metrics, after.metrics, {config["name"], *members}),
        version=version,
    )


def _used_s(before: Observation, after: Observation) -> float | None:
    # A child that ends takes its count with it.
    if before.cpu_s is None or after.cpu_s is None or after.cpu_s < before.cpu_s:
        return None
    return after.cpu_s - before.cpu_s


def _cache(own: Mapping[str, Any], outcome: str) -> int:
    return int(own.get("inference_stats", {}).get(f"cache_{outcome}", {}).get("count", 0))


def batching(config: dict[str, Any]) -> Batching:
    """Read a config as the server gives it; gRPC gives large numbers as strings and omits zeros."""
    dynamic = config.get("dynamic_batching")
    groups = config.get("instance_group", ())
    return Batching(
        # `count` is per GPU.
        instances=sum(int(group.get("count", 1)) * max(1, len(group.get("gpus", ()))) for group in groups),
        max_batch_size=int(config.get("max_batch_size", 0)),
        dynamic_batching=dynamic is not None,
        queue_delay_us=int((dynamic or {}).get("max_queue_delay_microseconds", 0)),
    )


def _executions(entry: Mapping[str, Any]) -> Executions:
    return Executions(_runs(entry), round(_nanoseconds(entry) / _runs(entry) / 1e6, 4))


def _runs(entry: Mapping[str, Any]) -> int:
    return int(entry.get("compute_infer", {}).get("count", 0))


def _nanoseconds(entry: Mapping[str, Any]) -> int:
    return sum(int(entry.get(stage, {}).get("ns", 0)) for stage in _COMPUTE)
