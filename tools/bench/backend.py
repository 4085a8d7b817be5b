"""What serving costs, and what the native backend gains over the Python-based one.

    python -m tools.bench backend
    python -m tools.bench backend cifar10_cnn --concurrency 1 32 --seconds 5 --backends native

For each model, the same TorchScript file is measured (a) called in a Python process, one image at a time and in batches
of the maximum size, and (b) through Triton, one image per request, at each concurrency: over HTTP with wrk where it is
installed, else with NVIDIA's perf_analyzer, which also measures gRPC. The backends take turns in one run, each turn
between two in-process measurements, so that a slowdown of the machine affects all. Absolute figures belong to the
machine; the ratios carry over. A last table shows how long a server of the whole repository takes to start and to load
one model, and its memory.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from clients.client import Client
from clients.command import say, text_table
from clients.connection import PROTOCOLS, Connection
from tools.bench import wrk
from tools.bench.copies import serve_copies
from tools.bench.options import TRAINED, BenchOptions, add_bench_arguments, trained_models
from tools.contract import read_contract
from tools.repository import MODEL_FILE, version_path, versions
from tools.serve.native import BACKENDS, choose_backend
from tools.serve.tritonserver import Options, Server
from tools.serve.usage import cpu_seconds, memory_bytes

_Call = Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class BackendOptions(BenchOptions):
    """The shared options, the protocols, and the backends to compare."""

    protocols: list[str]
    backends: list[str] | None


@dataclass(frozen=True)
class _Row:
    """A served measurement; server_us is processor time per request, in_process images per second by batch size."""

    protocol: str
    concurrency: int
    backend: str
    load: wrk.Load
    server_us: float
    in_process: dict[int, float]


@dataclass(frozen=True)
class _Cost:
    """What a server of the whole repository takes: seconds until it is ready, bytes, seconds to load a model again."""

    backend: str
    ready_s: float
    memory_bytes: int
    load_s: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's options."""
    add_bench_arguments(parser, BackendOptions, TRAINED, [1, 8, 32, 64], "each measurement", 2.0)
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=PROTOCOLS, help="(default: all)")
    parser.add_argument("--backends", nargs="+", choices=BACKENDS[1:], help="(default: all that this host has)")


def run(options: BackendOptions) -> dict[str, Any]:
    """Measure all models, print a table of each and one of costs; return the figures."""
    import torch

    # As many threads as the committed configs give a model.
    torch.set_num_threads(1)
    models, document = options.models or trained_models(), dict[str, Any]()
    backends = options.backends or sorted({choose_backend("auto", say).name, "python"})
    with ExitStack() as running:
        servers = [
            running.enter_context(serve_copies(models, options.repository, options.hardware, backend))
            for backend in backends
        ]
        for model in models:
            rows = _bench(model, servers, options)
            print(f"\n{model}\n{text_table(_table(rows))}")
            document[model] = _document(rows)
    costs = [_cost(backend, models[0], options) for backend in backends]
    print(f"\nall models\n{text_table(_cost_table(costs))}")
    return {**document, "costs": {cost.backend: asdict(cost) for cost in costs}}


def _bench(model: str, servers: Sequence[Server], options: BackendOptions) -> list[_Row]:
    calls = _in_process_calls(model, options.repository)
    _rates(calls)  # The first forward passes compile.
    before, rows = _rates(calls), []
    for protocol in options.protocols:
        for concurrency in options.concurrency:
            for server in servers:
                say(f"{model} {protocol} concurrency {concurrency} {server.backend.name} …")
                used, began = cpu_seconds(server.pid), time.monotonic()
                load = wrk.send_best(model, server.address(protocol), protocol, concurrency, options)
                server.check()
                share = (cpu_seconds(server.pid) - used) / (time.monotonic() - began)
                after = _rates(calls)
                limit = {size: (before[size] + after[size]) / 2 for size in calls}
                server_us = 1e6 * share / load.rate
                rows.append(_Row(protocol, concurrency, server.backend.name, load, server_us, limit))
                before = after
    return rows


def _in_process_calls(model: str, repository: Path) -> dict[int, _Call]:
    """The newest version as a function, at batch size 1 and at the model's maximum."""
    import torch

    from tools import torchscript
    from tools.contract import example

    module = torchscript.load(version_path(model, versions(model, repository)[-1], repository) / MODEL_FILE)
    contract = read_contract(model, repository)
    generator = torch.Generator().manual_seed(0)
    tensors = {size: example(contract.inputs[0], size, generator) for size in (1, contract.max_batch_size)}
    return {size: partial(module, tensor) for size, tensor in tensors.items()}


def _rates(calls: dict[int, _Call], seconds: float = 0.5) -> dict[int, float]:
    """Images per second by batch size."""
    import torch

    rates = {}
    with torch.inference_mode():
        for size, call in calls.items():
            call()
            done, start = 0, time.perf_counter()
            while done < 3 or time.perf_counter() - start < seconds:
                call()
                done += 1
            rates[size] = done * size / (time.perf_counter() - start)
    return rates


def _table(rows: list[_Row]) -> list[list[str]]:
    header = ["protocol", "concurrency", "backend", "infer/s", "p50 ms", "p99 ms", "server µs each", "÷ python"]
    for size in rows[0].in_process:
        header.append(f"÷ in process at batch {size}")
    python = {(row.protocol, row.concurrency): row.load.rate for row in rows if row.backend == "python"}
    table = [header]
    for row in rows:
        load, twin = row.load, python.get((row.protocol, row.concurrency))
        cells = [row.protocol, str(row.concurrency), row.backend, f"{load.rate:,.0f}", f"{load.p50_ms:.2f}"]
        cells += [f"{load.p99_ms:.2f}", f"{row.server_us:.0f}", f"{load.rate / twin:.2f}" if twin else "-"]
        table.append([*cells, *(f"{load.rate / rate:.3f}" for rate in row.in_process.values())])
    return table


def _document(rows: list[_Row]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for row in rows:
        document.setdefault(row.protocol, {}).setdefault(str(row.concurrency), {})[row.backend] = {
            "rps": round(row.load.rate, 1),
            "p50_ms": row.load.p50_ms,
            "p99_ms": row.load.p99_ms,
            "server_us": round(row.server_us, 1),
            "in_process": {str(size): round(rate, 1) for size, rate in row.in_process.items()},
        }
    return document


def _cost(backend: str, model: str, options: BackendOptions) -> _Cost:
    began = time.monotonic()
    with Server(Options(options.repository, hardware=options.hardware, backend=backend, ready_timeout=300)) as server:
        ready = time.monotonic() - began
        memory = memory_bytes(server.pid)
        with Client(Connection("grpc", server.grpc)) as client:
            client.unload(model)
            began = time.monotonic()
            client.load(model)
            return _Cost(backend, ready, memory, time.monotonic() - began)


def _cost_table(costs: Sequence[_Cost]) -> list[list[str]]:
    header = ["backend", "ready s", "memory MB", "load one model s"]
    cells = [(cost.backend, cost.ready_s, cost.memory_bytes / 1e6, cost.load_s) for cost in costs]
    return [header, *([name, f"{ready:.2f}", f"{memory:,.0f}", f"{load:.3f}"] for name, ready, memory, load in cells)]
