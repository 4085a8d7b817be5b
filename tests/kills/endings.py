"""End a running command with a signal, and look at what it leaves: processes, shared memory, results, a repository."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.kills.cases import MODEL, Case, Place
from tools.check.rules import check
from tools.repository import REPOSITORY, ROOT

SIGNALS = (signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGHUP)
_GRACE_S = 10.0  # for what ends by itself once its parent is gone; a child that still imports notices after that
_SERVER_GRACE_S = 15.0  # for a server that answers its last requests
_STOP_S = 40.0
_EARLIER = "of an earlier run"


@dataclass(frozen=True)
class Ending:
    """What a command has left behind, and its exit code."""

    code: int
    left: list[str]  # processes, shared memory, changed results and files, a traceback; empty if nothing

    def __str__(self) -> str:
        return f"exit code {self.code}: {'; '.join(self.left) or 'nothing left'}"


def end(case: Case, number: signal.Signals, moment: float, variables: Mapping[str, str]) -> Ending:
    """Start a command, send it a signal after some seconds, and see what is left."""
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        place = _place(Path(folder), case)
        temporary, before = place.outputs.with_name("tmp"), _contents(place.repository) | _contents(place.outputs)
        temporary.mkdir()
        code, said, servers = _run(case, place, number, moment, {**variables, "TMPDIR": str(temporary)})
        left = _processes(str(temporary), _SERVER_GRACE_S if servers else _GRACE_S)
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
    case: Case, place: Place, number: signal.Signals, moment: float, variables: Mapping[str, str]
) -> tuple[int, str, set[str]]:
    """Exit code, what was said, and the folders of the servers that were started."""
    log, ignored = place.outputs.with_name("log"), signal.signal(signal.SIGINT, signal.default_int_handler)
    with log.open("w") as stream:
        process = subprocess.Popen(
            case.line(place), cwd=ROOT, env={**os.environ, **variables}, stdout=stream, stderr=stream
        )
    signal.signal(signal.SIGINT, ignored)
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


def _processes(mark: str, patience: float) -> list[str]:
    """Processes that have a mark in their environment or arguments after some seconds; they are killed then."""
    deadline = time.monotonic() + patience
    while (marked := _marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in marked:
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
