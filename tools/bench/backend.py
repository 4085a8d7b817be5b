"""What serving costs: inferences per second through the server beside the in-process TorchScript limit.

    python -m tools.bench_backend
    python -m tools.bench_backend --models cifar10_cnn --concurrency 1 32 --seconds 5

One run starts the embedded server and, for each model, measures the same TorchScript file (a) called in a Python
process, one image at a time and in batches of the maximum, and (b) through Triton over HTTP and gRPC with NVIDIA's
perf_analyzer, at each concurrency, one image a request. An in-process round stands before and after each served one,
which is compared with the mean of the two: a machine that slows down slows both. Absolute figures belong to the
machine; the ratios travel. The last line of stdout is one compact JSON document.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from clients.command import text_table
from tools import recipes, torchscript
from tools.bench.copies import write_copies
from tools.bench.perf_analyzer import Measurement, PerfAnalyzerError, measure
from tools.contract import example, read_contract
from tools.recipes import Recipe
from tools.repository import MODEL_FILE, REPOSITORY, RepositoryError, version_path, versions
from tools.serve.hardware import HARDWARE
from tools.serve.server_error import ServerError
from tools.serve.tritonserver import Options, Server

PROTOCOLS = ("http", "grpc")
Call = Callable[[], Any]


@dataclass(frozen=True)
class Row:
    """A served measurement, and images per second in process beside it, by batch size."""

    served: Measurement
    limit: dict[int, float]


Rows = dict[tuple[str, int], Row]


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench_backend", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--models", nargs="+", help="(default: the trained ones that `make build` makes)")
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=PROTOCOLS, help="(default: both)")
    parser.add_argument("--concurrency", nargs="+", type=int, default=[1, 8, 32, 64], help="(default: 1 8 32 64)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each of three windows (default: %(default)s)")
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help="(default: %(default)s)")
    parser.add_argument(
        "--hardware", choices=HARDWARE, default="auto", help="as for tools.serve (default: %(default)s)"
    )
    return parser


def default_models() -> list[str]:
    """The trained models that `make build` makes."""
    found = {name: recipes.load(name) for name in recipes.names()}
    return [name for name, recipe in found.items() if isinstance(recipe, Recipe) and recipe.default]


def bare(model: str, repository: Path) -> dict[int, Call]:
    """The newest version as a function in this process, at batch 1 and at the model's maximum."""
    module = torchscript.load(version_path(model, versions(model, repository)[-1], repository) / MODEL_FILE)
    contract = read_contract(model, repository)
    generator = torch.Generator().manual_seed(0)
    tensors = {size: example(contract.inputs[0], size, generator) for size in (1, contract.max_batch_size)}
    return {size: partial(module, tensor) for size, tensor in tensors.items()}


@torch.inference_mode()
def in_process(calls: dict[int, Call], seconds: float = 1.0) -> dict[int, float]:
    """Images per second by batch size, with the one thread that its config gives the model."""
    rates = {}
    for size, call in calls.items():
        call()
        done, start = 0, time.perf_counter()
        while done < 3 or time.perf_counter() - start < seconds:
            call()
            done += 1
        rates[size] = done * size / (time.perf_counter() - start)
    return rates


def bench(model: str, server: Server, arguments: argparse.Namespace) -> Rows:
    """All measurements of one model, each between two in-process rounds."""
    calls = bare(model, arguments.repository)
    in_process(calls)  # The first forwards compile.
    before = in_process(calls)
    rows: Rows = {}
    for protocol in arguments.protocols:
        for concurrency in arguments.concurrency:
            print(f"{model} {protocol} concurrency {concurrency} …", file=sys.stderr)
            seen = measure(model, server.address(protocol), protocol, concurrency, arguments.seconds)
            server.check()
            after = in_process(calls)
            limit = {size: (before[size] + after[size]) / 2 for size in calls}
            rows[protocol, concurrency] = Row(seen, limit)
            before = after
    return rows


def table(rows: Rows) -> list[list[str]]:
    """One model's figures for people."""
    single, full = next(iter(rows.values())).limit
    header = [
        *("protocol", "concurrency", "infer/s", "p50 ms", "p99 ms"),
        *(title for size in (single, full) for title in (f"in process at batch {size}", "ratio")),
    ]
    return [header, *(cells(protocol, concurrency, row) for (protocol, concurrency), row in rows.items())]


def cells(protocol: str, concurrency: int, row: Row) -> list[str]:
    """One measurement for people."""
    seen = row.served
    figures = [f"{seen.rate:,.0f}", f"{seen.p50_ms:.2f}", f"{seen.p99_ms:.2f}"]
    beside = [text for rate in row.limit.values() for text in (f"{rate:,.0f}", f"{seen.rate / rate:.3f}")]
    return [protocol, str(concurrency), *figures, *beside]


def document(results: dict[str, Rows]) -> dict[str, Any]:
    """The figures for scripts: by model, protocol and concurrency."""
    found: dict[str, Any] = {}
    for model, rows in results.items():
        for (protocol, concurrency), row in rows.items():
            found.setdefault(model, {}).setdefault(protocol, {})[str(concurrency)] = {
                "rps": round(row.served.rate, 1),
                "p50_ms": row.served.p50_ms,
                "p99_ms": row.served.p99_ms,
                "in_process": {str(size): round(rate, 1) for size, rate in row.limit.items()},
            }
    return found


def main() -> int:
    """Entry point."""
    arguments = parser().parse_args()
    # The in-process limit is taken with as many threads as the committed configs give a model: one.
    torch.set_num_threads(1)
    results = {}
    models = arguments.models or default_models()
    try:
        # Copies, because other models would take memory and caches from those that are measured.
        with tempfile.TemporaryDirectory() as scratch:
            copies = write_copies(models, Path(scratch), arguments.repository.resolve())
            with Server(Options(copies, hardware=arguments.hardware)) as server:
                for model in models:
                    results[model] = bench(model, server, arguments)
                    print(f"\n{model}\n{text_table(table(results[model]))}")
    except (ServerError, RepositoryError, PerfAnalyzerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(document(results), separators=(",", ":")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
