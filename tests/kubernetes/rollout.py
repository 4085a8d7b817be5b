"""A rollout as Kubernetes does it with the manifests, on processes: the next pod is ready before an old one drains.

Callers of both protocols ask the door all the time, without retries of their own.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from clients.client import Client
from clients.connection import PROTOCOLS, Connection, Protocol
from clients.errors import ToolError
from clients.statistics import counted
from tests.e2e.serving import add_sleeper
from tests.kubernetes.door import door, pods_of_one_name
from tests.kubernetes.names import Names
from tests.kubernetes.rendering import container, rendered
from tests.waiting import soon
from tools.serve.tritonserver import Server

_CALL_S = 0.01  # that each request computes
_REPLICAS = 2


@dataclass
class Rollout:
    """What callers saw, and for how many seconds the door still sent requests to a pod that had left its name."""

    requests: int = 0
    failures: list[str] = field(default_factory=list)
    noticed_s: list[float] = field(default_factory=list)


def rollout(scratch: Path) -> Rollout:
    """Replace each pod once, with the manifest's preStop."""
    seen = Rollout()
    prestop_s = container(rendered("cpu"), "triton", "triton")["lifecycle"]["preStop"]["sleep"]["seconds"]
    pods = pods_of_one_name(add_sleeper(scratch / "rolled"), 2 * _REPLICAS)
    there = pods[:_REPLICAS]
    try:
        for pod in there:
            pod.__enter__()
        with Names(*map(_host, there)) as names, door(scratch, names, there) as address, _calling(address, seen):
            for pod in pods[_REPLICAS:]:
                pod.__enter__()
                old, there = there[0], [*there[1:], pod]
                names.addresses = tuple(map(_host, [old, *there]))
                time.sleep(2)
                names.addresses = tuple(map(_host, there))
                seen.noticed_s.append(_last_request(old, prestop_s))
                old.__exit__(None, None, None)
    finally:
        for pod in there:
            pod.__exit__(None, None, None)
    return seen


def _host(pod: Server) -> str:
    return pod.http.rpartition(":")[0]


def _last_request(pod: Server, seconds: float) -> float:
    """Look on for so long; after how many seconds it has answered its last request."""
    began, last, answered = time.monotonic(), 0.0, -1
    with Client(Connection("grpc", pod.grpc)) as client:
        while (passed := time.monotonic() - began) < seconds:
            now = counted(client.statistics("sleeper")[0]).requests
            if now != answered:
                last, answered = passed, now
            time.sleep(0.02)
    return last


@contextmanager
def _calling(address: str, seen: Rollout) -> Iterator[None]:
    """Two callers of each protocol within the block."""
    stop, lock = threading.Event(), threading.Lock()

    def call(protocol: Protocol) -> None:
        with Client(Connection(protocol, address, retries=0)) as client:
            while not stop.is_set():
                problem = ""
                try:
                    client.infer("sleeper", np.array([_CALL_S], np.float32))
                except ToolError as error:
                    problem = str(error)
                with lock:
                    seen.requests += 1
                    seen.failures += [problem] if problem else []

    callers = [threading.Thread(target=call, args=(protocol,)) for protocol in PROTOCOLS for _ in range(2)]
    with Client(Connection("http", address)) as client:
        assert soon(client.is_ready, 60)
    for caller in callers:
        caller.start()
    try:
        yield
    finally:
        stop.set()
        for caller in callers:
            caller.join()
