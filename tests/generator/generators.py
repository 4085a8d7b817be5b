"""The two load generators under the same closed loop: this repository's `loadtest.run`, and NVIDIA's perf_analyzer.

Both measure from before a request is sent until after its answer is received. What perf_analyzer's report splits into
Client Send, Network+Server Send/Recv, the server's stages and Client Recv adds up to its mean latency: it takes the
time before its client library builds the request, and again when the library has taken the answer apart.
`loadtest.run` takes it before the write and after the last byte; its requests were serialised before the test, and of
an answer it reads the status and the size, so that its span holds less work of its own.
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
from tools.bench.perf_analyzer import LONGEST_WINDOW, PerfAnalyzerError, lasting, measure, once
from tools.contract import example, read_contract
from tools.repository import ROOT
from tools.serve.instances import cpu_seconds
from tools.serve.tritonserver import Server

# Seconds that `loadtest.run` sends before its window begins.
WARM_UP = 0.5
# `loadtest.run` gives no p99 of fewer than 368 requests; a slower round is to have as many too.
REQUESTS = 450
INVALID = 3  # the exit code of `loadtest.run` when it was the bottleneck
Result = TypeVar("Result")


class GeneratorError(Exception):
    """A load generator failed; the message holds what it said."""


@dataclass(frozen=True)
class Load:
    """What both generators do to a model.

    Attributes:
        seconds: of one of perf_analyzer's windows as it is asked; `loadtest.run` has one as long as they really are.
        inputs: folder with a file of raw values for each input of the model.
    """

    model: str
    protocol: str
    concurrency: int
    seconds: float
    inputs: Path


@dataclass(frozen=True)
class Seen:
    """What one generator says in one round; rate and latencies are None where it was the bottleneck itself.

    Attributes:
        rate: requests per second.
        p50_ms, p99_ms: latencies; p99 is None of too few requests as well.
        cpu_us: microseconds of processor time of the generator per request.
        served: requests per core-second of the server; None where it used less than can be told.
    """

    rate: float | None
    p50_ms: float | None
    p99_ms: float | None
    cpu_us: float | None
    served: float | None


def write_inputs(model: str, repository: Path, folder: Path) -> Path:
    """Files for perf_analyzer, whose own random bytes would be numbers that no model meets: NaN, 1e38.

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


def window(model: str, server: Server, protocol: str, concurrency: int, seconds: float) -> float:
    """Seconds of each of three windows that hold enough requests for a p99; measured, which also warms the server up.

    Raises:
        PerfAnalyzerError: it failed.
    """
    seen = measure(model, server.address(protocol), protocol, concurrency, seconds)
    return min(LONGEST_WINDOW, max(seen.seconds, REQUESTS / lasting(1) / seen.rate))


def ours(load: Load, server: Server) -> Seen:
    """One run of `loadtest.run`.

    Raises:
        GeneratorError: it failed, or the server answered with errors.
    """
    document, requests, used = counted(load, server, lambda: loadtest(load, server.address(load.protocol)))
    per_core = document["generator"]["requests_per_core_s"]
    return Seen(
        document["rps"],
        document["p50_ms"],
        document["p99_ms"],
        1e6 / per_core if per_core else None,
        requests / used if used else None,
    )


def theirs(load: Load, server: Server) -> Seen:
    """One run of perf_analyzer; its processor time includes its start, its requests those outside the windows.

    Raises:
        PerfAnalyzerError: it failed, or too few requests were answered.
    """
    url = server.address(load.protocol)
    arguments = (load.model, url, load.protocol, load.concurrency, load.seconds, load.inputs)
    seen, requests, used = counted(load, server, lambda: once(*arguments))
    if seen is None:
        raise PerfAnalyzerError(
            f"{load.model} {load.protocol} concurrency {load.concurrency}: expected answers in windows of "
            f"{load.seconds:g} s, got too few; give more --seconds"
        )
    cpu_us = 1e6 * seen.cpu_s / requests if requests else None
    return Seen(seen.rate, seen.p50_ms, seen.p99_ms, cpu_us, requests / used if used else None)


def counted(load: Load, server: Server, run: Callable[[], Result]) -> tuple[Result, int, float]:
    """A run's result, requests that the server counted meanwhile, and the processor seconds that it used."""
    with Client(Connection("grpc", server.grpc)) as client:
        requests, used = served(client, load.model), cpu_seconds(server.pid)
        result = run()
        server.check()
        return result, served(client, load.model) - requests, cpu_seconds(server.pid) - used


def served(client: Client, model: str) -> int:
    """Requests for a model that succeeded since the server started; gRPC leaves zeros out."""
    return sum(
        int(one.get("inference_stats", {}).get("success", {}).get("count", 0)) for one in client.statistics(model)
    )


def loadtest(load: Load, url: str) -> dict[str, Any]:
    """The document of one run of `loadtest.run`, with random inputs as perf_analyzer's.

    Raises:
        GeneratorError: it failed, or the server answered with errors.
    """
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "loadtest.run", *options(load, url, scratch)]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if result.returncode not in (0, INVALID):
        raise GeneratorError(f"loadtest.run failed ({result.returncode}): {result.stderr.strip()[-600:]}")
    document: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    if document["errors"]:
        raise GeneratorError(f"{load.model}: expected answers alone, got errors: {document['error_kinds']}")
    return document


def options(load: Load, url: str, scratch: str) -> list[str]:
    """Arguments of `loadtest.run`; the folder of reports holds no samples, so that inputs are random."""
    duration = WARM_UP + lasting(load.seconds)
    return [
        *(load.model, "--concurrency", str(load.concurrency), "--protocol", load.protocol, "--url", url),
        *("--warm-up", str(WARM_UP), "--duration", f"{duration:.3f}", "--report", scratch, "--samples", scratch),
    ]
