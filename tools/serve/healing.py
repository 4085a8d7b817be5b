"""Sick models: which there are, what was tried, how one is loaded anew, and which processes have died."""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from clients.aio import AsyncClient
from clients.errors import ClientError
from tools.repository import version_path
from tools.serve.journal import Journal

_STEADY_S = 60.0  # once it has answered rightly for so long, a model is treated as one that was never sick
_RELAPSES = 3  # so often what has helped is tried again, unless the model is steady meanwhile
_LOAD_S = 20.0


@dataclass
class Patient:
    """A model that is sick, or was lately: since when, what was tried, and since when it answers rightly again."""

    since: float
    problem: str
    tried: list[str] = field(default_factory=list)
    right_since: float | None = None
    relapses: int = 0


class Ward:
    """The patients of one replica, by model; they stay known when it restarts, and so does what was tried."""

    def __init__(self, replica: str, journal: Journal):
        self.patients: dict[str, Patient] = {}
        self._replica, self._journal = replica, journal

    def admit(self, model: str, problem: str) -> Patient:
        """Note that a model is sick."""
        patient = self.patients.get(model)
        if patient is None or patient.right_since is not None:
            tried, relapses = (patient.tried, patient.relapses + 1) if patient else ([], 0)
            patient = self.patients[model] = Patient(time.monotonic(), problem, tried, relapses=relapses)
            self._journal.model_is(self._replica, model, False)
            self._journal.tell("sick", problem, self._replica, model)
        return patient

    def is_right(self, model: str) -> None:
        """Note that a model answers rightly."""
        patient, now = self.patients.get(model), time.monotonic()
        if patient is None:
            self._journal.model_is(self._replica, model, True)
        elif patient.right_since is None:
            patient.right_since, took = now, round(now - patient.since, 2)
            if patient.relapses < _RELAPSES:
                patient.tried.clear()
            self._journal.model_is(self._replica, model, True)
            self._journal.tell("healed", f"answers rightly again after {took:g} s", self._replica, model, seconds=took)
        elif now - patient.right_since > _STEADY_S:
            del self.patients[model]

    def problems(self) -> dict[str, str]:
        """What is wrong now, by model."""
        return {model: each.problem for model, each in self.patients.items() if each.right_since is None}


async def reload(client: AsyncClient, model: str, version: int, repository: Path) -> str:
    """Have a server load a model anew; returns why that failed, or nothing."""
    try:
        # Triton loads again only what has changed.
        for file in version_path(model, version, repository).iterdir():
            os.utime(file)
        async with AsyncClient(replace(client.connection, timeout_s=_LOAD_S)) as patient_client:
            await patient_client.load(model)
    except (ClientError, OSError) as error:
        return str(error)
    return ""


class Processes:
    """The processes of a server's Python-based models, which the server itself does not miss when they die."""

    def __init__(self, server: int, repository: Path):
        self._models: dict[int, str] = {}  # By process id.
        self._zombies: set[int] = set()
        self._server, self._repository = server, repository

    def has_lost_one(self) -> bool:
        """Whether one of those that were seen has died; costs little, unlike a look at all."""
        return any(name and _is_zombie(pid) for pid, name in self._models.items())

    def bereaved(self) -> set[str]:
        """Look again; models that have lost a process which has been dead since the last look."""
        before, self._zombies = self._zombies, set()
        with suppress(psutil.Error):  # The server has just ended.
            for process in psutil.Process(self._server).children(recursive=True):
                with suppress(psutil.Error):
                    if process.status() == psutil.STATUS_ZOMBIE:
                        self._zombies.add(process.pid)
                    elif process.pid not in self._models:
                        self._models[process.pid] = self._model(process.cmdline())
        return {self._models.pop(pid, "") for pid in self._zombies & before} - {""}

    def end(self, model: str) -> None:
        """End the processes of a model that hangs: its old instances would wait for them for ever."""
        for pid in [pid for pid, name in self._models.items() if name == model]:
            del self._models[pid]
            with suppress(psutil.Error):
                psutil.Process(pid).kill()

    def forget(self, model: str) -> None:
        """Miss none of the processes that a model has had: it was loaded anew."""
        self._models = {pid: name for pid, name in self._models.items() if name != model}

    def _model(self, line: Sequence[str]) -> str:
        # A stub's arguments name the model's file.
        paths = (Path(word) for word in line if word.startswith(f"{self._repository}/"))
        return next((path.relative_to(self._repository).parts[0] for path in paths), "")


def _is_zombie(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].startswith(b"Z")
    return False
