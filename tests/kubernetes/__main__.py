"""Measure what the numbers in deploy/kubernetes/ are derived from: `python -m tests.kubernetes`.

Times of a pod's life, on the built repository: the init steps, loading, draining. A rollout of two pods behind the
door, while callers ask: how long the door sends requests to a pod that leaves, and how many fail (then the exit code is
1). Then what a scaler could look at while the rate of requests grows: seconds of waiting per second of computing, and
the processor time of the server, which has one core here, and the load generator another.

    python -m tests.kubernetes
    python -m tests.kubernetes --tries 1 --duration 5s --model cifar10_cnn
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from clients.client import Client
from clients.command import command, command_parser, duration, positive, print_json, say, text_table
from clients.connection import Connection
from tests.conftest import copied
from tests.e2e.serving import FREE_PORTS, Serving, add_sleeper, fall_asleep, serving
from tests.kubernetes.rendering import container, rendered
from tests.kubernetes.rollout import rollout
from tests.overload.loads import run
from tests.waiting import soon
from tools.repository import REPOSITORY, ROOT
from tools.serve.usage import cpu_seconds, memory_bytes
from tools.sign.signatures import new_key

_SHARES = (0.25, 0.5, 0.75, 0.9, 1.1)
_RUNNING_S = 3.0  # of a request that runs while the pod drains
_MIB = 1 << 20


def _flags(models: Path, keys: Path) -> list[str]:
    """The server's flags in the manifest, for a repository here and free ports."""
    words = container(rendered("cpu"), "triton", "triton")["args"][3:]
    places = {"/models": str(models), "/keys": str(keys), "0.0.0.0:8003": "127.0.0.1:0", "0.0.0.0": "127.0.0.1"}
    for inside, outside in places.items():
        words = [word.replace(inside, outside) for word in words]
    return [*words, *FREE_PORTS]


def _timed(work: Callable[[], Any]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _is_ready(status: str) -> bool:
    with suppress(HTTPError), urlopen(f"http://{status}/ready"):
        return True
    return False


@contextmanager
def _pod(folder: Path, flags: list[str], times: dict[str, float]) -> Iterator[tuple[Serving, dict[str, str]]]:
    """A server, with its addresses, once it is ready."""
    began = time.monotonic()
    with serving(folder, *flags) as running:
        places = running.line(120).split("Serving at ")[1].split("; ")[0].replace("http://", "")
        times["load"] = time.monotonic() - began
        http, grpc, _ = (place.split(" ")[0] for place in places.split(", "))
        yield running, {"http": http, "grpc": grpc, "status": running.line().split("http://")[1].split("/")[0]}


def _life(scratch: Path, models: Path, keys: Path) -> dict[str, float]:
    """The seconds that the parts of a pod's life take, and the memory it needs."""
    times: dict[str, float] = {}
    verify = container(rendered("cpu"), "triton", "verify")["command"]
    line = [word.replace("/models", str(models)).replace("/keys", str(keys)) for word in [sys.executable, *verify[1:]]]
    times["fetch"] = _timed(lambda: shutil.copytree(models, scratch / "fetched"))
    times["verify"] = _timed(lambda: subprocess.run(line, cwd=ROOT, check=True, capture_output=True))
    flags = _flags(models, keys)
    with _pod(scratch / "running", flags, times) as (running, where):
        times["ready, after that"] = _timed(lambda: soon(lambda: _is_ready(where["status"])))
        times["memory MiB"] = memory_bytes(running.process.pid) / _MIB
        with ThreadPoolExecutor(1) as pool:
            fall_asleep(models, where["grpc"], _RUNNING_S, pool)
            times[f"drain, a request of {_RUNNING_S:g} s"] = _timed(lambda: running.end(signal.SIGTERM))
    with _pod(scratch / "kept", flags, times) as (running, where):
        host, _, port = where["http"].rpartition(":")
        with socket.create_connection((host, int(port))) as kept:
            kept.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            kept.recv(1000)
            times["drain, an idle connection"] = _timed(lambda: running.end(signal.SIGTERM))
    return times


def _scaling(scratch: Path, model: str, seconds: float, flags: list[str]) -> list[list[str]]:
    """Rows: the share of the saturating rate, waiting per computing, processor time of the server, latency."""
    rows, cores = [], sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:1])
    with _pod(scratch / "scaled", [*flags, "--watch=0"], {}) as (running, where):
        os.sched_setaffinity(0, cores[1:] or cores)
        closed = run(model, where["http"], "http", seconds, scratch, "--concurrency", "32")
        saturating = closed["requests"] / closed["duration_s"]
        with Client(Connection("http", where["http"])) as client:
            for share in _SHARES:
                before, began = (_stages(client, model), cpu_seconds(running.process.pid)), time.monotonic()
                rate = ("--rate", f"{share * saturating:.0f}", "--arrivals", "poisson")
                found = run(model, where["http"], "http", seconds, scratch, *rate)
                busy = (cpu_seconds(running.process.pid) - before[1]) / (time.monotonic() - began)
                queue, compute = (now - then for now, then in zip(_stages(client, model), before[0], strict=True))
                rows.append([f"{share:.0%}", f"{queue / compute:.2f}", f"{busy:.0%}", str(found["p99_ms"])])
                say(json.dumps(rows[-1]))
    return rows


def _stages(client: Client, model: str) -> tuple[int, int]:
    """Nanoseconds in the queue and in the model, of all requests so far."""
    (found,) = client.statistics(model)
    stages = found["inference_stats"]
    return stages["queue"]["ns"], stages["compute_infer"]["ns"]


@command()
def main() -> int:
    """Measure, and print the tables."""
    parser = command_parser("tests.kubernetes", __doc__)
    parser.add_argument("--model", default="cifar10_cnn", metavar="NAME", help="to scale (default: %(default)s)")
    parser.add_argument("--tries", type=positive, default=3, metavar="N", help="of a pod's life (default: %(default)s)")
    parser.add_argument("--duration", type=duration, default=10.0, metavar="TIME", help="of each load (default: 10s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        private, public = new_key(scratch / "keys")
        models = add_sleeper(copied(REPOSITORY, scratch / "models"))
        line = [sys.executable, "-m", "tools.sign", "--key", private, "--repository", models]
        subprocess.run(line, cwd=ROOT, check=True, capture_output=True)
        lives = []
        for number in range(arguments.tries):
            (scratch / str(number)).mkdir()
            lives.append(_life(scratch / str(number), models, public.parent))
            say(json.dumps(lives[-1]))
        rolled = rollout(scratch)
        say(f"rollout: {rolled.requests} requests, failed: {rolled.failures}")
        rows = _scaling(scratch, arguments.model, arguments.duration, _flags(models, public.parent))
    longest = {part: round(max(life[part] for life in lives), 2) for part in lives[0]}
    print(text_table([["part of a pod's life", "longest"], *([part, str(value)] for part, value in longest.items())]))
    failed, followed = len(rolled.failures), round(max(rolled.noticed_s), 2)
    print(f"rollout: {rolled.requests} requests, {failed} failed; the door followed within {followed:g} s")
    head = ["load", "waiting / computing", "processor", "p99 ms"]
    print(text_table([head, *rows]))
    rolled_out = {"requests": rolled.requests, "failed": failed, "followed_s": followed}
    scaling = [dict(zip(head, row, strict=True)) for row in rows]
    print_json({"life": longest, "rollout": rolled_out, "scaling": scaling})
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
