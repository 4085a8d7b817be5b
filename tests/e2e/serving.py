"""`python -m tools.serve` as a process of its own, and a repository that it starts on in a moment."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tritonclient.grpc as grpc

from tests.waiting import soon
from tools.repository import ROOT

FREE_PORTS = ("--http-port=0", "--grpc-port=0", "--metrics-port=0")
CONFIG = """
name: "{name}"
backend: "python"
max_batch_size: 0
input {{ name: "SECONDS" data_type: TYPE_FP32 dims: [ 1 ] }}
output {{ name: "SECONDS" data_type: TYPE_FP32 dims: [ 1 ] }}
instance_group {{ kind: KIND_GPU }}
"""
# Without torch, so that a start costs tenths of a second. Whoever waits for it to sleep sees a file.
MODEL = """
import pathlib
import time
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.mark = pathlib.Path(args["model_repository"], "asleep")

    def execute(self, requests):
        answers = []
        for request in requests:
            seconds = pb_utils.get_input_tensor_by_name(request, "SECONDS").as_numpy()
            if seconds[0] > 0.5:
                self.mark.touch()
            time.sleep(float(seconds[0]))
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("SECONDS", seconds)]))
        return answers
"""


def add_sleeper(repository: Path, name: str = "sleeper") -> Path:
    """Add a model that answers after as many seconds as it is sent; returns the repository."""
    version = repository / name / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(MODEL)
    (repository / name / "config.pbtxt").write_text(CONFIG.format(name=name))
    return repository


def sleep_on(address: str, seconds: float) -> float:
    """Ask the sleeper at a gRPC address; its answer."""
    tensor = grpc.InferInput("SECONDS", [1], "FP32")
    tensor.set_data_from_numpy(np.array([seconds], np.float32))
    with grpc.InferenceServerClient(address) as client:
        return float(client.infer("sleeper", [tensor], client_timeout=60).as_numpy("SECONDS")[0])


def fall_asleep(repository: Path, address: str, seconds: float, pool: Executor) -> "Future[float]":
    """Ask the sleeper for more than half a second of sleep; its answer to come, once it sleeps."""
    mark = repository / "sleeper" / "asleep"
    mark.unlink(missing_ok=True)
    answer = pool.submit(sleep_on, address, seconds)
    assert soon(lambda: mark.exists() or answer.done())
    return answer


class Serving:
    """A running `python -m tools.serve`, with what it said so far and what it has put where."""

    def __init__(self, folder: Path, arguments: tuple[str | Path, ...], **variables: str):
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self._seen = 0
        with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tools.serve", *map(str, arguments)],
                cwd=ROOT,
                # All that it makes lies in this folder, or in /dev/shm under a name that begins like one there.
                env={**os.environ, "TMPDIR": str(folder), **variables},
                stdout=stdout,
                stderr=stderr,
            )

    def line(self, timeout: float = 120) -> str:
        """The next line of its standard output."""

        def lines() -> list[str]:
            # The last one may not have been written wholly.
            return (self.folder / "stdout").read_text().split("\n")[:-1]

        assert soon(lambda: len(lines()) > self._seen or self.process.poll() is not None, timeout, 0.02), self.stderr
        assert len(lines()) > self._seen, self.stderr
        self._seen += 1
        return lines()[self._seen - 1]

    def grpc(self) -> str:
        """The gRPC address, from the line that it prints when it is ready."""
        return self.line().split("(HTTP), ")[1].split(" ")[0]

    @property
    def stderr(self) -> str:
        """What it has written to its standard error."""
        return (self.folder / "stderr").read_text()

    def started(self) -> set[int]:
        """Process ids of all that it has started, directly or not."""
        return descendants(self.process.pid)

    def triton(self) -> int:
        """Process id of tritonserver."""
        (pid,) = (pid for pid in self.started() if name_of(pid) == "tritonserver")
        return pid

    def shared_memory(self) -> list[Path]:
        """Its regions in /dev/shm."""
        return [region for folder in self.folder.glob("triton-*") for region in regions(folder.name)]

    def end(self, *signals: int, timeout: float = 120) -> int:
        """Send signals, wait for the end; its exit code."""
        for number in signals:
            self.process.send_signal(number)
        return self.process.wait(timeout)


def name_of(pid: int) -> str:
    """The executable's name; empty when the process is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return "" if stat.rpartition(")")[2].split()[0] == "Z" else stat[stat.index("(") + 1 : stat.rindex(")")]


def descendants(pid: int) -> set[int]:
    """Children and their children."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:  # It ended while we looked.
            continue
    found: set[int] = set()
    new = {pid}
    while new := {child for child, parent in parents.items() if parent in new} - found:
        found |= new
    return found


def regions(prefix: str) -> list[Path]:
    """Shared-memory regions of one server."""
    return list(Path("/dev/shm").glob(f"{prefix}_*"))


@contextmanager
def serving(folder: Path, *arguments: str | Path, **variables: str) -> Iterator[Serving]:
    """Serve for as long as the block lasts; nothing may be left of it afterwards, however it ended."""
    running = Serving(folder, arguments, **variables)
    started: set[int] = set()
    prefixes: set[str] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            started.update(running.started())
            prefixes.update(path.name for path in folder.glob("triton-*"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.end(signal.SIGTERM)
        stop.set()
        watcher.join()
    # A caretaker grants a server ten seconds to end in good order.
    gone = soon(lambda: not traces(folder, started, prefixes))
    assert gone, f"left behind: {traces(folder, started, prefixes)}"


def traces(folder: Path, started: set[int], prefixes: set[str]) -> list[str]:
    """Processes, shared memory and folders of a server that are still there."""
    processes = [f"{name_of(pid)} ({pid})" for pid in started if name_of(pid)]
    memory = [str(region) for prefix in prefixes for region in regions(prefix)]
    return processes + memory + [str(path) for path in folder.glob("triton-*")]
