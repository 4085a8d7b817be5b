"""What runs on the hosts: a replica on each, the door before them, callers; and the counters of every replica."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients.client import Client
from clients.connection import PROTOCOLS, Connection, Protocol
from clients.errors import ClientError, ToolError
from clients.lifetime import leashed
from clients.output import write_atomically
from tests.hosts.balance import Course
from tests.hosts.network import Host
from tests.waiting import soon
from tools.repository import ROOT

HTTP, GRPC, AGENT, DOOR = 8000, 8001, 8005, 8443
_START_S, _STOP_S = 60.0, 20.0
_LOOK_S = 0.2
_LIST = "replicas"


def model_of(protocol: Protocol) -> str:
    """The model that callers of a protocol ask: Triton counts by model."""
    return f"over_{protocol}"


@contextmanager
def program(host: Host, folder: Path, place: str, *words: str) -> Iterator[None]:
    """Run a module of ours on a host within the block, from the moment at which a place is ready."""
    line = host.line([sys.executable, "-m", *words])
    with (path := folder / f"{host.name}.log").open("ab") as log:
        process = subprocess.Popen(leashed(line), cwd=ROOT, stdout=log, stderr=log)
    try:
        _wait_for(place, process, path)
        yield
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        finally:
            process.kill()


@contextmanager
def replica(host: Host, folder: Path, repository: Path) -> Iterator[None]:
    """Serve on a host within the block, from the moment at which it is ready."""
    words = ("tools.serve", "--repository", str(repository), "--host", host.address, "--hardware", "cpu")
    with program(host, folder, f"{host.address}:{HTTP}", *words):
        yield


@contextmanager
def door(host: Host, replicas: Sequence[Host], folder: Path, repository: Path, *options: str) -> Iterator[str]:
    """Run the door on a host; yields its address."""
    address = f"{host.address}:{DOOR}"
    list_replicas(folder, replicas)
    words = ("tools.front", "run", str(folder / "front"), "--repository", str(repository), "--front", address)
    files = (f"--access-log={folder / 'access.json'}", f"--backends={folder / _LIST}")
    with program(host, folder, address, *words, *files, *options):
        yield address


def list_replicas(folder: Path, replicas: Sequence[Host]) -> None:
    """Say before whom the door stands, or is to stand from now on."""
    lines = [f"{each.name}={each.address}:{HTTP},{each.address}:{GRPC},{AGENT}\n" for each in replicas]
    write_atomically(folder / _LIST, "".join(lines))


def _wait_for(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    with Client(Connection("http", address, 1.0, 0)) as client:
        soon(lambda: _is_ready(client) or process.poll() is not None, _START_S)
        if not _is_ready(client):
            raise ToolError(f"{address} is not ready: {log.read_text()[-2000:]}")


def _is_ready(client: Client) -> bool:
    try:
        return client.is_ready()
    except ClientError:
        return False


@dataclass(frozen=True)
class Calls:
    """What callers of a protocol saw: the JSON of a load test."""

    protocol: Protocol
    found: dict[str, Any]

    @property
    def sent(self) -> int:
        """How many requests there were."""
        return int(self.found["requests"])

    @property
    def failed(self) -> int:
        """How many of them failed."""
        return int(self.found["errors"])


def start_calls(host: Host, address: str, folder: Path, rate: float, seconds: float) -> "list[Callers]":
    """Send requests of both protocols on a schedule, from a host, without retries."""
    return [Callers(host, address, folder, protocol, rate, seconds) for protocol in PROTOCOLS]


class Callers:
    """A load test that runs."""

    def __init__(self, host: Host, address: str, folder: Path, protocol: Protocol, rate: float, seconds: float):
        words = ["loadtest.run", model_of(protocol), "--url", address, "--protocol", protocol, "--arrivals", "constant"]
        words += ["--rate", f"{rate:g}", "--duration", f"{seconds:g}", "--warm-up", "0", "--report", str(folder)]
        self.protocol = protocol
        line = leashed(host.line([sys.executable, "-m", *words]))
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self._process = subprocess.Popen(line, cwd=ROOT, text=True, **pipes)

    def result(self) -> Calls:
        """Wait for the end."""
        stdout, stderr = self._process.communicate()
        if not stdout:
            raise ToolError(f"the load test failed: {stderr.strip()[-600:]}")
        return Calls(self.protocol, json.loads(stdout.splitlines()[-1]))


@contextmanager
def counted(hosts: Sequence[Host]) -> Iterator[Course]:
    """Read every replica's counters again and again within the block."""
    course, stop = Course({host.name: [] for host in hosts}), threading.Event()

    def follow(host: Host) -> None:
        seen = {model_of(protocol): 0 for protocol in PROTOCOLS}
        with Client(Connection("http", f"{host.address}:{HTTP}", _LOOK_S, 0)) as client:
            while not stop.wait(_LOOK_S):
                # One that is away answers nobody, so that it counts nothing.
                with suppress(ClientError):
                    seen = {name: _count(client, name) for name in seen}
                course.looks[host.name].append((time.monotonic(), *seen.values()))

    threads = [threading.Thread(target=follow, args=(host,)) for host in hosts]
    with ExitStack() as stack:
        for thread in threads:
            thread.start()
            stack.callback(thread.join)
        stack.callback(stop.set)
        yield course


def _count(client: Client, name: str) -> int:
    return sum(int(entry.get("inference_count", 0)) for entry in client.statistics(name))
