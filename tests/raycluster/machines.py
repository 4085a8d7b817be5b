"""Machines of a Ray cluster, as processes of this host: `ray start`, on addresses of loopback, ended by their ids."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from clients.errors import ToolError
from clients.lifetime import leashed
from tests.e2e.peers import free_address
from tests.waiting import soon

_STORE_BYTES = 100 * 2**20
# Who does not have the token is not let in: other users of this host, say.
KEY = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
_START_S, _STOP_S = 60.0, 15.0


@contextmanager
def machine(folder: Path, host: str, head: str = "", cpus: int = 1) -> Iterator[psutil.Process]:
    """The process of `ray start`: the head of a cluster at a HOST:PORT, or a machine at HOST that joins the `head`."""
    own = ["--address", head]
    if not head:
        port = host.partition(":")[2]
        own = ["--head", f"--port={port}", f"--ray-client-server-port={unused_port()}", "--include-dashboard=false"]
        own.append(f"--temp-dir={folder}")
    line = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *own),
        *(f"--node-ip-address={host.partition(':')[0]}", f"--num-cpus={cpus}"),
        *(f"--object-store-memory={_STORE_BYTES}", "--disable-usage-stats"),
    ]
    log = folder / f"{host}.log"
    with log.open("w") as stream:
        process = subprocess.Popen(leashed(line), stdout=stream, stderr=stream, env={**os.environ, **KEY})
    started = psutil.Process(process.pid)
    try:
        soon(lambda: "--block" in log.read_text() or process.poll() is not None, _START_S)
        if "--block" not in log.read_text():
            raise ToolError(f"`ray start` did not succeed: {log.read_text()[-800:]}")
        yield started
    finally:
        _end(started)
        process.wait()


def raylet(started: psutil.Process) -> psutil.Process:
    """The process that runs the workers of a machine."""
    return next(child for child in started.children(recursive=True) if child.name() == "raylet")


def workers(started: psutil.Process) -> list[psutil.Process]:
    """The workers of a machine that are at work on a part."""
    return [child for child in started.children(recursive=True) if _title(child).startswith("ray::do_part")]


def _title(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def _end(started: psutil.Process) -> None:
    """End a machine and all that it has started, whether it still runs or not."""
    with suppress(psutil.NoSuchProcess):
        family = [*started.children(recursive=True), started]
        started.terminate()
        _, alive = psutil.wait_procs(family, _STOP_S)
        for process in alive:
            process.kill()


def unused_port() -> str:
    """A port of this host that is free."""
    return free_address().partition(":")[2]
