"""A supervised service under test: its replicas, its events, and what becomes of a fault."""

import json
import os
import signal
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from clients.connection import Connection, Protocol, Tls
from tests.e2e.serving import FREE_PORTS, Serving, name_of, serving
from tests.faults import models
from tests.faults.load import Choose
from tests.hostile.targets import door_address
from tests.waiting import soon
from tools.front.certificates import write_authority, write_certificate

Document = dict[str, Any]
# Faster than by default, so that tests are.
FLAGS = ("--watch=0.5", "--watch-timeout=1", "--log-format=json", "--status=127.0.0.1:0")


@dataclass(frozen=True)
class Service:
    """A running `tools.serve` with replicas."""

    serving: Serving
    repository: Path
    status_url: str
    door: str = ""  # its address, if there is one

    def status(self) -> Document:
        """What the supervisor says."""
        document: Document = json.loads(urllib.request.urlopen(self.status_url, timeout=30).read())
        return document

    def counters(self) -> str:
        """What Prometheus gets."""
        page = self.status_url.replace("/status", "/metrics")
        return str(urllib.request.urlopen(page, timeout=30).read().decode())

    def events(self) -> list[Document]:
        """The latest events; not from its log, which may be what is broken."""
        return list(self.status()["events"])

    def wait(self, name: str, since: float, model: str = "", timeout: float = 60) -> Document:
        """The first event of a name since a time, of a model if one is given."""
        found: list[Document] = []

        def has_come() -> bool:
            assert self.serving.process.poll() is None, self.serving.stderr
            named = [event for event in self.events() if event["event"] == name and seconds_of(event) >= since]
            found[:] = [event for event in named if not model or event.get("model") == model]
            return bool(found)

        assert soon(has_come, timeout), self.serving.stderr
        return found[0]

    def tritons(self) -> list[int]:
        """Process ids of the tritonservers, the oldest first."""
        return sorted(pid for pid in self.serving.started() if name_of(pid) == "tritonserver")

    def stubs(self, model: str) -> list[int]:
        """Process ids of a model's processes."""
        lines = {pid: _command_line(pid) for pid in self.serving.started()}
        return sorted(pid for pid, line in lines.items() if b"stub" in line and f"/{model}/".encode() in line)

    def chooser(self) -> Choose:
        """The address of a replica that takes requests, as a load balancer finds it: by asking the agents."""
        replicas = self.status()["replicas"]

        def choose(protocol: Protocol) -> Connection | None:
            ready = (each[protocol] for each in replicas if agent_says(each["agent"]) == "up ready")
            address = next(ready, None)
            return Connection(protocol, address, 5.0, 0) if address else None

        return choose

    def door_chooser(self) -> Choose:
        """The front door, asked without retries."""
        tls = Tls(str(self.pki / "ca.pem"))
        return lambda protocol: Connection(protocol, self.door, 30.0, 0, tls=tls)

    @property
    def pki(self) -> Path:
        """The folder of the door's certificates."""
        return self.repository.parent / "pki"

    @property
    def logs(self) -> Path:
        """The folder of all logs, if there is a door."""
        return self.repository.parent / "logs"


def _command_line(pid: int) -> bytes:
    with suppress(OSError):  # It has just ended.
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def seconds_of(event: Document) -> float:
    """When an event was, as time.time() counts."""
    return datetime.fromisoformat(event["at"]).timestamp()


def agent_says(address: str) -> str:
    """What a replica's agent answers."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        return connection.recv(100).decode().strip()


@contextmanager
def service(
    folder: Path, *flags: str, replicas: int = 2, names: Sequence[str] = (models.NAME,), **variables: str
) -> Iterator[Service]:
    """Serve models of these tests, once they have answered rightly; nothing may be left afterwards."""
    repository = folder / "models"
    for name in names:
        models.write(repository, name)
    arguments = ("--repository", repository, *FREE_PORTS, f"--replicas={replicas}", *FLAGS, *flags)
    with serving(folder / "run", *arguments, **variables) as running:
        door = ""
        while not (line := running.line()).startswith("State of the service: "):
            door = door_address(line) if line.startswith("Front door at ") else door
        started = Service(running, repository, line.split()[4], door)
        healthy = "triton_supervisor_model_healthy{"
        assert soon(lambda: started.counters().count(healthy) >= replicas * len(names), 120)
        yield started


def door_flags(folder: Path, address: str = "127.0.0.1:0") -> list[str]:
    """Options for a front door with TLS; its access log and the service's own are in one folder."""
    pki, logs = folder / "pki", folder / "logs"
    if not pki.exists():
        pki.mkdir()
        write_authority(pki)
        write_certificate(pki, "server", ["127.0.0.1"])
    for path in (logs, folder / "run"):
        path.mkdir(exist_ok=True)
    if not (folder / "run" / "stderr").is_symlink():
        (folder / "run" / "stderr").symlink_to(logs / "stderr")
    tls = (f"--tls-cert={pki / 'server.pem'}", f"--tls-key={pki / 'server.key'}")
    return [f"--front={address}", "--operator=127.0.0.1:0", *tls, f"--access-log={logs / 'access.json'}"]


def _kill(service: Service, model: str) -> None:
    os.kill(service.tritons()[0], signal.SIGKILL)


def _stop(service: Service, model: str) -> None:
    os.kill(service.tritons()[0], signal.SIGSTOP)


def _kill_stub(service: Service, model: str) -> None:
    os.kill(service.stubs(model)[0], signal.SIGKILL)


def _order(what: str) -> Callable[[Service, str], None]:
    return lambda service, model: models.order(service.repository, model, what)


@dataclass(frozen=True)
class Fault:
    """How a fault is made, by a service and a model, and the events that say that it was noticed and mended."""

    inject: Callable[[Service, str], None]
    noticed: str
    mended: str


FAULTS = {
    "kill -9 of a replica": Fault(_kill, "died", "up"),
    "SIGSTOP of a replica": Fault(_stop, "restarting", "up"),
    "a model's process killed": Fault(_kill_stub, "sick", "healed"),
    "a model hangs for ever": Fault(_order("hangs"), "sick", "healed"),
    "a model answers wrongly": Fault(_order("lies"), "sick", "healed"),
    "the same, until its server restarts": Fault(_order("sticks"), "restarting", "healed"),
}


@dataclass(frozen=True)
class Outcome:
    """Seconds from a fault until it was noticed and until it was mended; None where there was nothing to notice."""

    noticed_s: float | None
    mended_s: float | None


def suffer(service: Service, fault: Fault, model: str = models.NAME) -> Outcome:
    """Inject a fault and wait until it is mended."""
    began = time.time()
    fault.inject(service, model)
    about = model if fault.mended == "healed" else ""
    noticed = service.wait(fault.noticed, began, about)
    mended = service.wait(fault.mended, seconds_of(noticed), about)
    return Outcome(round(seconds_of(noticed) - began, 2), round(seconds_of(mended) - began, 2))
