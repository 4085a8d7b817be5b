"""Tries carried out: each in a session of its own, against a real server or what is none; what is wrong with each."""

import contextlib
import os
import random
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.commands.tries import Try, random_try
from tests.commands.world import MODEL
from tests.e2e.peers import listening, nobody, silence
from tests.e2e.test_not_triton import page
from tools.serve.tritonserver import Options, Server

# What the documentation promises; 141 is a reader of stdout that went away.
CODES = {0, 1, 2, 3, 130, 141}
_PATIENCE_S, _GRACE_S = 5.0, 60.0  # then SIGTERM; then SIGKILL, which is a flaw


@dataclass(frozen=True)
class Outcome:
    """What came of a try; `flaw` is what is wrong with it."""

    number: int
    tried: Try
    code: int
    stderr: str
    flaw: str | None

    def __str__(self) -> str:
        return f"#{self.number} {self.flaw or f'exit code {self.code}'}: {self.tried}"


def run_tries(world: Path, numbers: Iterable[int], seed: int, workers: int) -> Iterator[Outcome]:
    """Carry out the tries with these numbers in a world; the same seed gives the same tries."""
    with _places(world) as places, ThreadPoolExecutor(workers) as pool:
        yield from pool.map(lambda number: _run(world, number, seed, places), numbers)


@contextlib.contextmanager
def _places(world: Path) -> Iterator[dict[str, tuple[str, str]]]:
    """Addresses for HTTP and gRPC, by what is there."""
    flags = ("--model-control-mode=explicit", f"--load-model={MODEL}")
    with (
        Server(Options(world / "model_repository", flags=flags)) as server,
        page(b"<html>hello</html>") as web,
        listening(silence) as silent,
        listening(lambda accepted, _: accepted.sendall(b"SSH-2.0\r\n")) as garbage,
    ):
        yield {
            "triton": (server.http, server.grpc),
            "nothing": (nobody(), nobody()),
            "page": (web, web),
            "metrics": (server.metrics, server.metrics),
            "silence": (silent, silent),
            "garbage": (garbage, garbage),
        }


def _run(world: Path, number: int, seed: int, places: dict[str, tuple[str, str]]) -> Outcome:
    tried = random_try(random.Random(f"{seed} {number}"))
    http, grpc = places[tried.place]
    environment = {**os.environ, "TRITON_HTTP_URL": http, "TRITON_GRPC_URL": grpc, **tried.variables}
    module, *words = tried.words
    line = f"{tried.shell} exec {shlex.quote(sys.executable)} -m {module} {shlex.join(words)}"
    said = world / f"stderr-{number}"
    with said.open("wb") as stderr:
        # The shell is named in full: PATH may lead nowhere.
        child = subprocess.Popen(
            ["/bin/bash", "-c", line],
            cwd=world,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )
    ended = _wait(child)
    text = said.read_text(errors="replace")
    said.unlink()
    return Outcome(number, tried, child.returncode, text, _flaw(child.returncode, text, ended))


def _wait(child: "subprocess.Popen[bytes]") -> str:
    """Wait, then ask it to end, then end it; how it ended."""
    for seconds, number, how in ((_PATIENCE_S, signal.SIGTERM, "by itself"), (_GRACE_S, signal.SIGKILL, "when asked")):
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(seconds)
            return how
        child.send_signal(number)
    child.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    return "not"


def _flaw(code: int, stderr: str, ended: str) -> str | None:
    if "Traceback (most recent call last)" in stderr or "Exception ignored" in stderr:
        return "traceback"
    if ended == "not":
        return "did not end"
    # SIGTERM may come before `main` has begun.
    is_known = code in CODES or (ended == "when asked" and code == -signal.SIGTERM)
    return None if is_known else f"exit code {code}"
