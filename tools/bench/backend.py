"""What serving costs: inferences per second through the server beside the in-process TorchScript limit.

    python -m tools.bench backend
    python -m tools.bench backend cifar10_cnn --concurrency 1 32 --seconds 5

For each model, the same TorchScript file is measured (a) called in a Python process, one image at a time and in batches
of the maximum size, and (b) through Triton over HTTP and gRPC with NVIDIA's perf_analyzer, at each concurrency, one
image per request. Each served measurement stands between two in-process ones and is compared with their mean, so that
a slowdown of the machine affects both. Absolute figures belong to the machine; the ratios carry over.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from clients.command import say, text_table
from clients.connection import PROTOCOLS
from tools.bench.copies import serve_copies
from tools.bench.options import TRAINED, BenchOptions, add_bench_arguments, trained_models
from tools.bench.perf_analyzer import Measurement, measure
from tools.repository import MODEL_FILE, version_path, versions
from tools.serve.tritonserver import Server

_Call = Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class BackendOptions(BenchOptions):
    """The shared options, and the protocols."""

    protocols: list[str]


@dataclass(frozen=True)
class _Row:
    """A served measurement, and images per second in process beside it, by batch size."""

    protocol: str
    concurrency: int
    served: Measurement
    in_process: dict[int, float]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's options."""
    add_bench_arguments(parser, BackendOptions, TRAINED, [1, 8, 32, 64], "each of three windows", 2.0)
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=PROTOCOLS, help="(default: all)")


def run(options: BackendOptions) -> dict[str, Any]:
    """Measure all models, print a table of each, and return the figures by model, protocol and concurrency."""
    import torch

    # As many threads as the committed configs give a model.
    torch.set_num_threads(1)
    models, document = options.models or trained_models(), {}
    with serve_copies(models, options.repository, options.hardware) as server:
        for model in models:
            rows = _bench(model, server, options)
            print(f"\n{model}\n{text_table(_table(rows))}")
            document[model] = _document(rows)
    return document


def _bench(model: str, server: Server, options: BackendOptions) -> list[_Row]:
    calls = _in_process_calls(model, options.repository)
    _rates(calls)  # The first forward passes compile.
    before, rows = _rates(calls), []
    for protocol in options.protocols:
        for concurrency in options.concurrency:
            say(f"{model} {protocol} concurrency {concurrency} …")
            served = measure(model, server.address(protocol), protocol, concurrency, options.seconds)
            server.check()
            after = _rates(calls)
            limit = {size: (before[size] + after[size]) / 2 for size in calls}
            rows.append(_Row(protocol, concurrency, served, limit))
            before = after
    return rows


def _in_process_calls(model: str, repository: Path) -> dict[int, _Call]:
    """The newest version as a function, at batch size 1 and at the model's maximum."""
    import torch

    from tools import torchscript
    from tools.contract import example, read_contract

    module = torchscript.load(version_path(model, versions(model, repository)[-1], repository) / MODEL_FILE)
    contract = read_contract(model, repository)
    generator = torch.Generator().manual_seed(0)
    tensors = {size: example(contract.inputs[0], size, generator) for size in (1, contract.max_batch_size)}
    return {size: partial(module, tensor) for size, tensor in tensors.items()}


def _rates(calls: dict[int, _Call], seconds: float = 1.0) -> dict[int, float]:
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
    header = ["protocol", "concurrency", "infer/s", "p50 ms", "p99 ms"]
    for size in rows[0].in_process:
        header += [f"in process at batch {size}", "ratio"]
    table = [header]
    for row in rows:
        served = row.served
        cells = [
            row.protocol,
            str(row.concurrency),
            f"{served.rate:,.0f}",
            f"{served.p50_ms:.2f}",
            f"{served.p99_ms:.2f}",
        ]
        for rate in row.in_process.values():
            cells += [f"{rate:,.0f}", f"{served.rate / rate:.3f}"]
        table.append(cells)
    return table


def _document(rows: list[_Row]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for row in rows:
        document.setdefault(row.protocol, {})[str(row.concurrency)] = {
            "rps": round(row.served.rate, 1),
            "p50_ms": row.served.p50_ms,
            "p99_ms": row.served.p99_ms,
            "in_process": {str(size): round(rate, 1) for size, rate in row.in_process.items()},
        }
    return document
