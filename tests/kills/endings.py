"""End a running command with a signal, and look at what it leaves: processes, shared memory, results, a repository."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.kills.cases import MODEL, Case, Place
from tests.waiting import soon
from tools.check.rules import check
from tools.repository import REPOSITORY, ROOT

SIGNALS = (signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGHUP)
# For what ends by itself once its parent is gone, be it a server that answers its last requests.
_GRACE_S = 40.0
_STOP_S = 40.0
_EARLIER = "of an earlier run"


@dataclass(frozen=True)
class Ending:
    """What a command has left behind, and its exit code."""

    code: int
    left: list[str]  # processes, shared memory, changed results and files, a traceback; empty if nothing

    def __str__(self) -> str:
        return f"exit code {self.code}: {'; '.join(self.left) or 'nothing left'}"


def end(case: Case, number: signal.Signals, moment: float, variables: Mapping[str, str], talks: bool = False) -> Ending:
    """Start a command, send it a signal after some seconds, and see what is left.

    The seconds count from its start, or from when it `talks`: with a server, over a connection.
    """
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        place = _place(Path(folder), case)
        temporary, before = place.outputs.with_name("tmp"), _contents(place.repository) | _contents(place.outputs)
        temporary.mkdir()
        code, said, servers = _run(case, place, number, moment, {**variables, "TMPDIR": str(temporary)}, talks)
        left = _processes(str(temporary))
        left += [str(region) for server in servers for region in Path("/dev/shm").glob(f"{server}_*")]
        after = _contents(place.repository) | _contents(place.outputs)
        left += [f"changed: {path}" for path, content in before.items() if after.get(path) != content]
        left += [str(finding) for finding in check(place.repository) if finding.severity == "error"]
        return Ending(code, left + ([said] if "Traceback" in said else []))


def _place(folder: Path, case: Case) -> Place:
    place = Place(folder / "models", folder / "outputs")
    shutil.copytree(REPOSITORY / MODEL, place.repository / MODEL)
    place.outputs.mkdir()
    for name in case.earlier:
        (place.outputs / name).write_text(_EARLIER)
    return place


def _contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "/." not in str(path)}


def _run(
    case: Case, place: Place, number: signal.Signals, moment: float, variables: Mapping[str, str], talks: bool
) -> tuple[int, str, set[str]]:
    """Exit code, what was said, and the folders of the servers that were started."""
    log, ignored = place.outputs.with_name("log"), signal.signal(signal.SIGINT, signal.default_int_handler)
    with log.open("w") as stream:
        process = subprocess.Popen(
            case.line(place), cwd=ROOT, env={**os.environ, **variables}, stdout=stream, stderr=stream
        )
    signal.signal(signal.SIGINT, ignored)
    if talks:
        soon(lambda: process.poll() is not None or _talks(process.pid), 60)
    time.sleep(moment)
    if process.poll():
        return process.returncode, f"Traceback: it had failed before {number.name}: {log.read_text()[-400:]}", set()
    servers = {path.name for path in Path(variables["TMPDIR"]).glob("triton-*")}
    process.send_signal(number)
    try:
        return process.wait(_STOP_S), log.read_text(), servers
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait(), f"Traceback: it goes on {_STOP_S} s after {number.name}", servers


def _talks(pid: int) -> bool:
    """Whether a process, or one that it has started, has a connection."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        family = (process, *process.children(recursive=True))
        return any(each.status == psutil.CONN_ESTABLISHED for one in family for each in one.net_connections("tcp"))
    return False


def _processes(mark: str) -> list[str]:
    """Processes that have a mark in their environment or arguments after some seconds; they are killed then."""
    soon(lambda: not _marked(mark), _GRACE_S)
    marked = _marked(mark)
    for pid in marked:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return [f"process {name}" for name in marked.values()]


def _marked(mark: str) -> dict[int, str]:
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes()
            if mark.encode() in line + (folder / "environ").read_bytes():
                found[int(folder.name)] = line.replace(b"\0", b" ").decode(errors="replace")[:200]
        except OSError:  # It ended, or is somebody else's.
            continue
    return found
