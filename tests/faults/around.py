"""Faults of what is around a service: full disks and memory, certificates, versions, the clock, its own supervisor."""

import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from clients.client import Client
from clients.connection import Connection
from clients.errors import ClientError
from tests.e2e.serving import traces
from tests.faults import models
from tests.faults.service import FAULTS, Outcome, Service, door_flags, seconds_of, service, suffer
from tests.waiting import soon
from tools.front.certificates import write_certificate

SHARED_MEMORY = Path("/dev/shm")
_SMALL = {"logs": "size=1m", "shm": "size=64m"}
_HOLD_S = 6.0  # that a disk stays full, or the clock wrong
_SHIFTS_S = (86_400, -3_600, 0)


@contextmanager
def small(place: Path, name: str) -> Iterator[None]:
    """Mount a small file system in memory, in a mount namespace of this process, within the block."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", _SMALL[name], name, str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def _full(folder: Path) -> Iterator[None]:
    """Fill a file system, to the last byte, within the block."""
    filler = folder / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            for size in (1 << 16, 1):
                with suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass
        yield
    finally:
        filler.unlink()


def _full_disk(service: Service, _: ExitStack) -> Outcome:
    """No log can be written, and a replica dies meanwhile."""
    with _full(service.logs):
        time.sleep(1)
        outcome = suffer(service, FAULTS["kill -9 of a replica"])
        time.sleep(1)
    return outcome


def _full_shared_memory(service: Service, _: ExitStack) -> Outcome:
    """A replica dies meanwhile, and its Python-based models cannot be loaded again before there is room."""
    began = time.time()
    with _full(SHARED_MEMORY):
        time.sleep(1)
        os.kill(service.tritons()[0], signal.SIGKILL)
        noticed = service.wait("died", began)
        time.sleep(_HOLD_S)
    took = _seconds_until(lambda: _all_serve(service))
    return Outcome(round(seconds_of(noticed) - began - 1, 2), took)


def _seconds_until(condition: Callable[[], bool], most_s: float = 60) -> float:
    began = time.monotonic()
    assert soon(condition, most_s)
    return round(time.monotonic() - began, 2)


def _all_serve(service: Service) -> bool:
    """Whether all replicas are up and have the model."""
    for replica in service.status()["replicas"]:
        with Client(Connection("http", replica["http"], 5, 0)) as client:
            try:
                client.contract(models.NAME)
            except ClientError:
                return False
        if replica["state"] != "up":
            return False
    return True


def _renewed_certificate(service: Service, _: ExitStack) -> Outcome:
    host, _, port = service.door.rpartition(":")
    write_certificate(service.pki, "renewed", ["127.0.0.1"])
    for kind in ("pem", "key"):
        shutil.copy(service.pki / f"renewed.{kind}", service.pki / f"server.{kind}")
    wanted = (service.pki / "renewed.pem").read_text().strip()
    shown = _seconds_until(lambda: ssl.get_server_certificate((host, int(port))).strip() == wanted)
    return Outcome(shown, shown)


def _corrupt_version(service: Service, _: ExitStack) -> Outcome:
    """It is pushed beside the good one, an operator has it loaded, and then a replica dies."""
    models.push_corrupt_version(service.repository, models.NAME)
    for replica in service.status()["replicas"]:
        with Client(Connection("http", replica["http"], retries=0)) as client, suppress(ClientError):
            client.load(models.NAME)
            raise AssertionError("a corrupt version loads")
    time.sleep(1)
    outcome = suffer(service, FAULTS["kill -9 of a replica"])
    assert _all_serve(service)
    return outcome


def _clock(service: Service, _: ExitStack) -> Outcome:
    """A day ahead, an hour back, then right again; whatever is found sick then is a false alarm."""
    known = len(service.events())
    for shift in _SHIFTS_S:
        set_clock(service.repository.parent, shift)
        time.sleep(_HOLD_S / 2)
    assert len(service.events()) == known, service.events()[known:]
    return suffer(service, FAULTS["kill -9 of a replica"])


def set_clock(folder: Path, seconds: int) -> None:
    """Shift the clock of the service in a folder."""
    place = folder / "clock"
    place.touch()
    with place.open("r+b") as file:
        file.write(seconds.to_bytes(8, sys.byteorder, signed=True))


def clock_variables(folder: Path) -> dict[str, str]:
    """The environment of a service whose clock can be shifted."""
    library = folder / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    set_clock(folder, 0)
    return {"LD_PRELOAD": str(library), "CLOCK_SHIFT": str(folder / "clock")}


def _supervisor(running: Service, later: ExitStack) -> Outcome:
    """Everything ends with it; then it is started again, as a service manager does."""
    began, folder = time.monotonic(), running.serving.folder
    started, prefixes = running.serving.started(), {path.name for path in folder.glob("triton-*")}
    assert running.serving.end(signal.SIGKILL) == -signal.SIGKILL
    gone = _seconds_until(lambda: not traces(folder, started, prefixes))
    again = running.repository.parent / "again"
    again.mkdir()
    flags = door_flags(again, running.door)
    shutil.copytree(running.pki, again / "pki", dirs_exist_ok=True)
    later.enter_context(service(again, *flags))
    return Outcome(gone, round(time.monotonic() - began, 2))


# What is done to a service with a door.
AROUND: dict[str, Callable[[Service, ExitStack], Outcome]] = {
    "the disk of the logs is full, and a replica dies": _full_disk,
    "/dev/shm is full, and a replica dies": _full_shared_memory,
    "the certificate is renewed": _renewed_certificate,
    "a corrupt version is pushed, and a replica dies": _corrupt_version,
    "the clock jumps, and a replica dies": _clock,
    "kill -9 of the supervisor": _supervisor,
}
