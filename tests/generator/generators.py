"""The two load generators under the same closed loop: this repository's `loadtest.run`, and NVIDIA's perf_analyzer.

Both measure from before a request is sent until after its response is received. What perf_analyzer's report splits into
Client Send, Network+Server Send/Recv, the server's stages and Client Recv adds up to its mean latency: it takes the
time before its client library builds the request, and again when the library has parsed the response. `loadtest.run`
takes it before the write and after the last byte; its requests were serialized before the test, and of a response it
reads the status and the size, so its span contains less work of its own.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from clients.client import Client
from clients.connection import Connection
from clients.errors import ToolError
from tools.bench.perf_analyzer import LONGEST_WINDOW, PerfAnalyzerError, measure, measure_once, total_seconds
from tools.contract import example, read_contract
from tools.repository import ROOT
from tools.serve.tritonserver import Server
from tools.serve.usage import cpu_seconds

# Seconds that `loadtest.run` sends before its window begins.
WARM_UP = 0.5
# `loadtest.run` gives no p99 of fewer than 368 requests; a slower round must have as many too.
REQUESTS = 450
INVALID = 3  # the exit code of `loadtest.run` when it was the bottleneck
Result = TypeVar("Result")


class LoadTestFailed(ToolError):
    """`loadtest.run` failed; the message contains its own."""


@dataclass(frozen=True)
class Load:
    """What both generators do to a model.

    Attributes:
        seconds: length of a window as requested of perf_analyzer; `loadtest.run` gets one window of the actual length.
        inputs: folder with a file of raw values for each input of the model.
    """

    model: str
    protocol: str
    concurrency: int
    seconds: float
    inputs: Path


@dataclass(frozen=True)
class Figures:
    """What one generator reports of one round; rate and latencies are None where it was the bottleneck itself.

    Attributes:
        rate: requests per second.
        p50_ms, p99_ms: latencies; p99 is None for too few requests as well.
        cpu_us: processor microseconds of the generator per request.
        served: requests per core-second of the server; None where it used too little to tell.
    """

    rate: float | None
    p50_ms: float | None
    p99_ms: float | None
    cpu_us: float | None
    served: float | None


def write_inputs(model: str, repository: Path, folder: Path) -> Path:
    """Write files for perf_analyzer, whose own random bytes would be unrealistic numbers: NaN, 1e38.

    Raises:
        RepositoryError: an input has a data type of which there are no random values.
    """
    contract = read_contract(model, repository)
    generator = torch.Generator().manual_seed(0)
    folder.mkdir(parents=True)
    for spec in contract.inputs:
        values = example(spec, min(1, contract.max_batch_size), generator)
        (folder / spec.name).write_bytes(values.contiguous().view(torch.uint8).numpy().tobytes())
    return folder


def sufficient_window(model: str, server: Server, protocol: str, concurrency: int, seconds: float) -> float:
    """Find the length of three windows with enough requests for a p99 by a run, which also warms the server up.

    Raises:
        PerfAnalyzerError: it failed.
    """
    measured = measure(model, server.address(protocol), protocol, concurrency, seconds)
    return min(LONGEST_WINDOW, max(measured.seconds, REQUESTS / total_seconds(1) / measured.rate))


def ours(load: Load, server: Server) -> Figures:
    """Run `loadtest.run` once.

    Raises:
        LoadTestFailed: it failed, or the server responded with errors.
    """
    document, requests, used = count(load, server, lambda: _loadtest(load, server.address(load.protocol)))
    per_core = document["generator"]["requests_per_core_s"]
    return Figures(
        document["rps"],
        document["p50_ms"],
        document["p99_ms"],
        1e6 / per_core if per_core else None,
        requests / used if used else None,
    )


def theirs(load: Load, server: Server) -> Figures:
    """Run perf_analyzer once; its processor time includes its start, its requests those outside the windows.

    Raises:
        PerfAnalyzerError: it failed, or too few requests were answered.
    """
    url = server.address(load.protocol)
    arguments = (load.model, url, load.protocol, load.concurrency, load.seconds, load.inputs)
    measured, requests, used = count(load, server, lambda: measure_once(*arguments))
    if measured is None:
        raise PerfAnalyzerError(
            f"{load.model} {load.protocol} concurrency {load.concurrency}: too few answers in windows of "
            f"{load.seconds:g} s; set more --seconds"
        )
    cpu_us = 1e6 * measured.cpu_s / requests if requests else None
    served = requests / used if used else None
    return Figures(measured.rate, measured.p50_ms, measured.p99_ms, cpu_us, served)


def count(load: Load, server: Server, run: Callable[[], Result]) -> tuple[Result, int, float]:
    """Return a run's result, the requests that the server counted meanwhile, and the processor seconds it used."""
    with Client(Connection("grpc", server.grpc)) as client:
        requests, used = _served(client, load.model), cpu_seconds(server.pid)
        result = run()
        server.check()
        return result, _served(client, load.model) - requests, cpu_seconds(server.pid) - used


def _served(client: Client, model: str) -> int:
    """Successful requests for a model since the server started; gRPC leaves zeros out."""
    versions = client.statistics(model)
    return sum(int(version.get("inference_stats", {}).get("success", {}).get("count", 0)) for version in versions)


def _loadtest(load: Load, url: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "loadtest.run", *options(load, url, scratch)]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if result.returncode not in (0, INVALID):
        raise LoadTestFailed(f"loadtest.run failed ({result.returncode}): {result.stderr.strip()[-600:]}")
    document: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    if document["errors"]:
        raise LoadTestFailed(f"{load.model}: expected no errors, got {document['error_kinds']}")
    return document


def options(load: Load, url: str, scratch: str) -> list[str]:
    """Arguments of `loadtest.run`; the folder of reports has no samples, so that inputs are random."""
    duration = WARM_UP + total_seconds(load.seconds)
    return [
        *(load.model, "--concurrency", str(load.concurrency), "--protocol", load.protocol, "--url", url),
        *("--warm-up", str(WARM_UP), "--duration", f"{duration:.3f}", "--report", scratch, "--samples", scratch),
    ]
