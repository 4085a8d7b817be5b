"""Serve for long under load while models come and go, and see what grows: `python -m tests.soak --minutes 20`.

Callers of both protocols ask a classifier and a pipeline at a bounded rate; every few seconds another model is unloaded
and loaded again. Memory (what processes share is counted once), open files and shared memory of the server are sampled;
the slope of each over the second half is Theil and Sen's, with its 95 % interval. The page goes to build/soak.html. The
exit code is 1 if a request failed, or if memory grows by more than a stated rate even at the interval's lower end.

    python -m tests.soak --minutes 480        # over night
"""

import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from clients.client import Client
from clients.command import command, command_parser, positive_float, print_json, progress_counter
from clients.connection import PROTOCOLS, Connection, Protocol
from clients.errors import ToolError
from loadtest.report.axes import Axis
from loadtest.report.charts import over_time
from loadtest.report.page import Page, Section, publish
from tools.repository import REPOSITORY, ROOT
from tools.serve.tritonserver import Options, Server
from tools.serve.usage import memory_bytes

_ASKED: dict[str, NDArray[Any]] = {
    "mnist_mlp": np.zeros((4, 784), np.float32),
    "digit_image": np.zeros((2, 28, 28, 1), np.uint8),
}
_CHURNED = ("cifar10_cnn", "digit_label")  # one in the server's process, one in a process of its own
_PAUSE_S, _CHURN_S = 0.1, 10.0
_GROWTH = 4.0  # MiB per hour that are no leak: allocators and caches settle slowly


@dataclass(frozen=True)
class Sample:
    """What the server used at a moment, in seconds from the start."""

    seconds: float
    memory_mib: float
    files: int
    shared_mib: float


@dataclass(frozen=True)
class Slope:
    """Growth per hour, with its 95 % interval."""

    per_hour: float
    low: float
    high: float


@dataclass
class Tally:
    """What has happened so far; nothing is sampled while `reloading` is held."""

    requests: int = 0
    failed: int = 0
    reloads: int = 0
    reloading: threading.Lock = field(default_factory=threading.Lock)


def _ask(address: str, protocol: Protocol, ends: threading.Event, tally: Tally) -> None:
    with Client(Connection(protocol, address)) as client:
        while not ends.wait(_PAUSE_S):
            for model, rows in _ASKED.items():
                try:
                    client.infer(model, rows)
                except ToolError:
                    tally.failed += 1
                tally.requests += 1


def _churn(address: str, ends: threading.Event, tally: Tally) -> None:
    with Client(Connection("http", address)) as client:
        while not ends.wait(_CHURN_S):
            for model in _CHURNED:
                with tally.reloading:
                    client.unload(model)
                    client.load(model)
                tally.reloads += 1


def _sample(server: Server, started: float) -> Sample:
    tree = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    regions = Path("/dev/shm").glob("triton-*")
    return Sample(
        time.monotonic() - started,
        memory_bytes(server.pid) / 2**20,
        sum(process.num_fds() for process in tree),
        sum(region.stat().st_size for region in regions) / 2**20,
    )


def _watch(server: Server, minutes: float) -> tuple[list[Sample], Tally]:
    ends, tally, started, samples = threading.Event(), Tally(), time.monotonic(), list[Sample]()
    every = min(10.0, minutes)
    with ExitStack() as running, progress_counter("samples", int(60 * minutes / every)) as advance:
        for work, *arguments in ((_ask, server.address(name), name) for name in PROTOCOLS):
            _start(running, work, *arguments, ends, tally)
        _start(running, _churn, server.http, ends, tally)
        running.callback(ends.set)
        while time.monotonic() - started < 60 * minutes:
            time.sleep(every)
            server.check()
            with tally.reloading:
                samples.append(_sample(server, started))
            advance(1)
    return samples, tally


def _start(running: ExitStack, work: Callable[..., None], *arguments: object) -> None:
    thread = threading.Thread(target=work, args=arguments, daemon=True)
    thread.start()
    running.callback(thread.join, 30)


def _slope(samples: list[Sample], name: str) -> Slope:
    from scipy.stats import theilslopes

    later = samples[len(samples) // 2 :]
    found = theilslopes([getattr(one, name) for one in later], [one.seconds / 3600 for one in later])
    return Slope(float(found.slope), float(found.low_slope), float(found.high_slope))


def _page(samples: list[Sample], slopes: dict[str, Slope], tally: Tally, passed: bool) -> Page:
    rows = [["of the second half", "per hour", "95 % interval", "at the end"]]
    rows += [
        [name, f"{slope.per_hour:+.2f}", f"{slope.low:+.2f} to {slope.high:+.2f}", f"{getattr(samples[-1], name):,.0f}"]
        for name, slope in slopes.items()
    ]
    line = {"memory": [(one.seconds, one.memory_mib) for one in samples]}
    memory = over_time("memory of the server over time", line, Axis("memory", "MiB", zero=False))
    asked = f"{tally.requests:,} requests in {samples[-1].seconds / 60:.0f} min; {tally.reloads} models loaded again"
    slope = slopes["memory_mib"]
    found = f"{tally.failed} requests failed; memory grew by {slope.per_hour:+.2f} MiB per hour ({slope.low:+.2f} to "
    found += f"{slope.high:+.2f})"
    return Page("Soak", asked, found, [Section("What grows", memory, rows)], "passed" if passed else "failed")


@command()
def main() -> int:
    """Serve, load, sample, judge."""
    parser = command_parser("tests.soak", __doc__)
    parser.add_argument("--minutes", type=positive_float, default=20.0, help="(default: %(default)g)")
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help="(default: %(default)s)")
    arguments = parser.parse_args()
    with Server(Options(arguments.repository.resolve())) as server:
        samples, tally = _watch(server, arguments.minutes)
    slopes = {name: _slope(samples, name) for name in ("memory_mib", "files", "shared_mib")}
    passed = not tally.failed and slopes["memory_mib"].low < _GROWTH
    counts = {name: getattr(tally, name) for name in ("requests", "failed", "reloads")}
    document = {"passed": passed, **counts, **{name: asdict(slope) for name, slope in slopes.items()}}
    page = _page(samples, slopes, tally, passed)
    print(page.markdown(), publish(page, document, ROOT / "build", "soak"), sep="\n")
    print_json(document)
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
