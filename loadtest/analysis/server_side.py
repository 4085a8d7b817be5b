"""The server's side of a run: where a request's time went, which batches were formed, how busy the server was."""

import os
from dataclasses import asdict, dataclass
from typing import Any

from clients.client import Client
from clients.connection import host_and_port
from clients.proxies import is_loopback
from clients.statistics import STAGES, Counted, counted, mean_us
from loadtest.analysis.counters import Snapshot, difference, settled, snapshot
from loadtest.analysis.rejects import Rejects, Scrape, rejects, scrape


@dataclass(frozen=True)
class Observation:
    """What a server has done so far."""

    counters: Snapshot
    cpu_s: float | None  # of its processes; None where they are not on this host
    metrics: Scrape | None = None
    idle_s: float | None = None  # of all cores of this host so far, where the server is on it


@dataclass(frozen=True)
class Batching:
    """What a model's config says about instances and batches."""

    instances: int
    max_batch_size: int
    dynamic_batching: bool
    queue_delay_us: int
    preferred: tuple[int, ...] = ()  # batch sizes; empty for Triton's default
    on_gpu: bool = False


@dataclass(frozen=True)
class Executions:
    """The number of executions at one batch size, and their mean milliseconds."""

    executions: int
    ms: float


@dataclass(frozen=True)
class ServerSide:
    """What the server did during a run."""

    counted: Counted  # the model's own counters
    batching: Batching
    cache_hits: int
    cache_misses: int
    busy_instances: float | None  # mean number of instances that were executing; None for an ensemble, which has none
    batches: dict[int, Executions]  # by batch size
    members: dict[str, Counted]  # counters of an ensemble's members by name
    cpus: int | None  # cores of this host; None where the server is elsewhere, as for its CPU seconds
    cpu_s: float | None
    requests_per_core_s: int | None
    rejects: Rejects | None  # None where its metrics were not asked for
    version: str | None = None
    seconds: float = 0.0  # 0 where it is unknown
    time_us: float | None = None  # of a request in the server, whatever answered it
    cache_hit_us: float | None = None  # of a lookup that hit
    cache_miss_us: float | None = None  # of one that did not, and of the insertion after it
    idle_cores: float | None = None  # on average; None where the server is elsewhere
    instance_cores: float | None = None  # that an instance uses while it is executing, whichever model's

    @property
    def rps(self) -> float:
        """Requests per second; 0 where the seconds are unknown."""
        return self.counted.requests / self.seconds if self.seconds else 0.0

    @property
    def callers(self) -> float:
        """The mean number of requests in the server (Little's law); 0 where the seconds are unknown."""
        return self.rps * (self.time_us or 0.0) / 1e6

    def busy_share(self) -> float | None:
        """Share of the time during which the instances were executing; None where it is unknown."""
        if self.busy_instances is None or not self.batching.instances:
            return None
        return self.busy_instances / self.batching.instances

    def document(self) -> dict[str, Any]:
        """As JSON."""
        document = asdict(self)
        return {**document.pop("counted"), **document.pop("batching"), **document}


def observe(client: Client, metrics: str | None = None, is_over: bool = False) -> Observation:
    """Read the server's counters now, and its metrics where their address is given; raises ClientError.

    When a run is over, what was answered last is waited for.
    """
    host, port = host_and_port(client.connection.url)
    is_here = is_loopback(host)
    cpu_s, idle_s = (_cpu_seconds(port), _idle_seconds()) if is_here else (None, None)
    counters = settled(client) if is_over else snapshot(client)
    return Observation(counters, cpu_s, scrape(metrics) if metrics else None, idle_s)


def _idle_seconds() -> float:
    import psutil

    times = psutil.cpu_times()
    return float(times.idle + getattr(times, "iowait", 0.0))


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
    own, members, groups = counters.get(config["name"], {}), member_names(config), batching(config)
    figures, stats = counted(own), own.get("inference_stats", {})
    used, idle_s = _passed(before.cpu_s, after.cpu_s), _passed(before.idle_s, after.idle_s)
    all_busy_s = sum(map(_busy_s, counters.values()))
    return ServerSide(
        counted=figures,
        batching=groups,
        cache_hits=int(stats.get("cache_hit", {}).get("count", 0)),
        cache_misses=int(stats.get("cache_miss", {}).get("count", 0)),
        busy_instances=round(_busy_s(own) / seconds, 3) if seconds and groups.instances else None,
        batches=_executions(own),
        members={name: counted(counters[name]) for name in sorted(members & counters.keys())},
        cpus=None if used is None else os.cpu_count(),
        cpu_s=None if used is None else round(used, 2),
        requests_per_core_s=round(figures.requests / used) if used else None,
        rejects=rejects(before.metrics, after.metrics, {config["name"], *members}),
        version=version,
        seconds=round(seconds, 3),
        time_us=mean_us(stats.get("success", {})),
        cache_hit_us=mean_us(stats.get("cache_hit", {})),
        cache_miss_us=mean_us(stats.get("cache_miss", {})),
        idle_cores=None if idle_s is None or not seconds else round(idle_s / seconds, 2),
        instance_cores=round(used / all_busy_s, 3) if used and all_busy_s else None,
    )


def _passed(before: float | None, after: float | None) -> float | None:
    """Seconds between two readings; None where one is missing, or a process that ended took its count with it."""
    return None if before is None or after is None or after < before else after - before


def _executions(counters: dict[str, Any]) -> dict[int, Executions]:
    """A model's executions by batch size, the smallest first."""
    batches = {}
    for size, entry in sorted(counters.get("batch_stats", {}).items(), key=lambda item: int(item[0])):
        if count := int(entry.get("compute_infer", {}).get("count", 0)):
            batches[int(size)] = Executions(count, round(1000 * _executing_s(entry) / count, 4))
    return batches


def _busy_s(counters: dict[str, Any]) -> float:
    """The seconds that a model's instances were executing."""
    return sum(map(_executing_s, counters.get("batch_stats", {}).values()))


def _executing_s(entry: dict[str, Any]) -> float:
    """The seconds of all executions of one batch size."""
    return sum(int(entry.get(stage, {}).get("ns", 0)) for stage in STAGES if stage != "queue") / 1e9


def member_names(config: dict[str, Any]) -> set[str]:
    """The models that an ensemble consists of; none for other models."""
    return {step["model_name"] for step in config.get("ensemble_scheduling", {}).get("step", ())}


def batching(config: dict[str, Any]) -> Batching:
    """Read a config as the server gives it; gRPC gives large numbers as strings and omits zeros."""
    dynamic = config.get("dynamic_batching")
    groups = config.get("instance_group", ())
    largest = int(config.get("max_batch_size", 0))
    preferred = tuple(int(size) for size in (dynamic or {}).get("preferred_batch_size", ()))
    return Batching(
        # `count` is per GPU.
        instances=sum(int(group.get("count", 1)) * max(1, len(group.get("gpus", ()))) for group in groups),
        max_batch_size=largest,
        dynamic_batching=dynamic is not None,
        queue_delay_us=int((dynamic or {}).get("max_queue_delay_microseconds", 0)),
        # Triton's default where the config names none.
        preferred=() if preferred == (largest,) else preferred,
        on_gpu=any(group.get("kind") == "KIND_GPU" or group.get("gpus") for group in groups),
    )
