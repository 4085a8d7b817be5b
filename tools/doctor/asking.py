"""Ask a server: its models, their configs and counters before and after some seconds, and what it would let us do."""

import http.client
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from clients.client import Client
from clients.connection import Connection, host_and_port
from clients.errors import ClientError
from clients.proxies import is_loopback
from loadtest.analysis.counters import difference
from loadtest.analysis.server_side import Observation, observe, server_side
from tools.doctor.load import ask
from tools.doctor.observation import READY, ModelSeen, Seen

_FEWEST = 20  # requests while we watch, below which the counters since the server's start say more
_PARTS = 2  # of the time in which we watch: does the queue grow?
# What opens a server to whoever reaches it, and a harmless way to find out.
_ADMIN_APIS = {
    "load and unload models": ("POST", "/v2/repository/models/the-doctor-loads-no-model/load"),
    "list the repository": ("POST", "/v2/repository/index"),
    "register shared memory": ("GET", "/v2/systemsharedmemory/status"),
    "trace requests into files": ("GET", "/v2/trace/setting"),
    "change the log": ("GET", "/v2/logging"),
}
_OBEYS = "failed to load"  # What a server says that would load a model, if only there were one.

Looks = Sequence[tuple[float, Observation]]


@dataclass(frozen=True)
class Watch:
    """How to look at a server.

    Attributes:
        metrics: HOST:PORT of its metrics; None for none.
        seconds: between the first and the last look.
        load_s: seconds of requests of our own; 0 for none.
        models: to ask; empty for all.
    """

    connection: Connection
    metrics: str | None = None
    seconds: float = 5.0
    load_s: float = 0.0
    models: tuple[str, ...] = ()


def see(watch: Watch) -> Seen:
    """Watch a server; raises ClientError if nothing answers, or not Triton."""
    with Client(watch.connection) as client:
        version = str(client.server().get("version", ""))
        index, notes = _index(client)
        models = [_with_config(client, model) for model in index if not watch.models or model.name in watch.models]
        looks = _looks(client, watch)
        watched = tuple(_watched(model, looks) for model in models)
        if watch.load_s:
            watched, unasked = ask(client, watched, watch.load_s)
            notes += unasked
    metrics = looks[-1][1].metrics
    if metrics is None or metrics.problem:
        notes.append(metrics.problem if metrics else "no metrics were read: give their address with --metrics-url")
    return Seen(
        url=watch.connection.url,
        version=version,
        seconds=watch.seconds,
        models=watched,
        is_loopback=is_loopback(host_and_port(watch.connection.url)[0]),
        open_apis=tuple(what for what, (method, path) in _ADMIN_APIS.items() if _is_open(watch, method, path)),
        has_summaries=bool(metrics and metrics.has_summaries),
        gpu_share=metrics.gpu_share if metrics else None,
        notes=tuple(notes),
    )


def _index(client: Client) -> tuple[list[ModelSeen], list[str]]:
    """All models of the server, and what it does not tell."""
    notes, found = [], dict[str, ModelSeen]()
    try:
        entries = client.models()
    except ClientError as error:  # An index may be closed, and counters open.
        notes.append(f"models that are not served are unknown: {error}")
        entries = [{**entry, "state": READY} for entry in client.statistics()]
    for entry in entries:
        state, reason = entry.get("state", ""), entry.get("reason", "")
        known = found.get(entry["name"], ModelSeen(entry["name"], ""))
        if not known.state or reason not in ("", "unloaded"):  # One that fails is not hidden by others that do not.
            known = replace(known, state=state, reason=reason)
        versions = (*known.versions, *[str(entry.get("version", ""))] * (state == READY))
        found[known.name] = replace(known, versions=versions)
    return list(found.values()), notes


def _with_config(client: Client, model: ModelSeen) -> ModelSeen:
    try:
        return replace(model, config=client.config(model.name)) if model.versions else model
    except ClientError as error:  # It was unloaded a moment ago, or its API is closed.
        return replace(model, reason=model.reason or str(error))


def _looks(client: Client, watch: Watch) -> Looks:
    looks = [(time.monotonic(), observe(client, watch.metrics))]
    for _ in range(_PARTS):
        time.sleep(watch.seconds / _PARTS)
        looks.append((time.monotonic(), observe(client, watch.metrics)))
    return looks


def _watched(model: ModelSeen, looks: Looks) -> ModelSeen:
    if not model.config:
        return model
    (began, first), (ended, last) = looks[0], looks[-1]
    server = server_side(first, last, model.config, ended - began)
    if server.counted.requests < _FEWEST:
        return replace(model, server=server_side(Observation({}, None), last, model.config, 0.0))
    scrapes = [look.metrics for _, look in looks]
    waiting = tuple(scrape.pending.get(model.name, 0) for scrape in scrapes if scrape and not scrape.problem)
    return replace(model, server=server, queue_us=tuple(_queues(model.name, looks)), waiting=waiting)


def _queues(name: str, looks: Looks) -> Iterator[float]:
    for (_, before), (_, after) in pairwise(looks):
        queue = difference(before.counters, after.counters)[name].get("inference_stats", {}).get("queue", {})
        yield queue.get("ns", 0) / 1000 / max(1, queue.get("count", 0))


def _is_open(watch: Watch, method: str, path: str) -> bool:
    address, _, prefix = watch.connection.url.partition("/")
    link = http.client.HTTPConnection(address, timeout=watch.connection.timeout_s)
    try:
        body = "{}" if method == "POST" else None
        # Without our headers: they may hold a key, and a stranger has none.
        link.request(method, f"/{prefix}".rstrip("/") + path, body)
        answer = link.getresponse()
        text = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return False
    finally:
        link.close()
    return answer.status == 200 or (path.endswith("/load") and _OBEYS in text)
