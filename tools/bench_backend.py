"""What serving costs: inferences per second through the server beside the in-process TorchScript limit.

    python -m tools.bench_backend
    python -m tools.bench_backend --models cifar10_cnn --concurrency 1 32 --seconds 5

One run starts the embedded server and, for each model, measures the same TorchScript file (a) called in a Python
process, one image at a time and in batches of the maximum, and (b) through Triton over HTTP and gRPC with NVIDIA's
perf_analyzer, at each concurrency, one image a request. In-process rounds stand before and after the served ones, so
that a machine that slows down in between shows. Absolute figures belong to the machine; the ratios travel. The last
line of stdout is one compact JSON document.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from tools import recipes, torchscript
from tools.contract import example, read_contract
from tools.copies import write_copies
from tools.hardware import HARDWARE
from tools.perf_analyzer import Measurement, PerfAnalyzerError, measure
from tools.recipes import Recipe
from tools.repository import MODEL_FILE, REPOSITORY, RepositoryError, version_path, versions
from tools.server_error import ServerError
from tools.tritonserver import Options, Server

PROTOCOLS = ("http", "grpc")


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


def in_process(model: str, batch: int, repository: Path, seconds: float = 1.0) -> float:
    """Images per second of the newest version called directly, with the one thread that its config gives it."""
    module = torchscript.load(version_path(model, versions(model, repository)[-1], repository) / MODEL_FILE)
    spec = read_contract(model, repository).inputs[0]
    tensor = example(spec, batch, torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for _ in range(20):
            module(tensor)
        calls, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            module(tensor)
            calls += 1
    return calls * batch / (time.perf_counter() - start)


def limits(model: str, repository: Path) -> dict[int, float]:
    """The in-process limit at batch 1 and at the model's maximum."""
    return {
        batch: in_process(model, batch, repository) for batch in (1, read_contract(model, repository).max_batch_size)
    }


def bench(model: str, server: Server, arguments: argparse.Namespace) -> dict[str, Any]:
    """All measurements of one model, the in-process limit as the median of rounds around them."""
    rounds = [limits(model, arguments.repository)]
    served: dict[str, dict[int, Measurement]] = {}
    for protocol in arguments.protocols:
        url = server.address(protocol)
        served[protocol] = {}
        for concurrency in arguments.concurrency:
            print(f"{model} {protocol} concurrency {concurrency} …", file=sys.stderr)
            served[protocol][concurrency] = measure(model, url, protocol, concurrency, arguments.seconds)
            server.check()
        rounds.append(limits(model, arguments.repository))
    limit = {batch: median(one[batch] for one in rounds) for batch in rounds[0]}
    return {"in_process": limit, "served": served}


def print_table(model: str, result: dict[str, Any]) -> None:
    """One model's figures for people."""
    (single, alone), (batch, batched) = result["in_process"].items()
    print(f"\n{model}: in process {alone:,.0f} images/s at batch {single}, {batched:,.0f} at batch {batch}")
    print(
        f"{'':6}{'concurrency':>12}{'infer/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'÷ batch 1':>11}{f'÷ batch {batch}':>11}"
    )
    for protocol, levels in result["served"].items():
        for concurrency, seen in levels.items():
            print(
                f"{protocol:6}{concurrency:>12}{seen.rate:>10,.0f}{seen.p50_ms:>9.2f}{seen.p99_ms:>9.2f}"
                f"{seen.rate / alone:>11.3f}{seen.rate / batched:>11.3f}"
            )


def document(results: dict[str, Any]) -> dict[str, Any]:
    """The figures for scripts."""
    return {
        model: {
            "in_process": {str(batch): round(rate, 1) for batch, rate in result["in_process"].items()},
            **{
                protocol: {
                    str(concurrency): {"rps": round(seen.rate, 1), "p50_ms": seen.p50_ms, "p99_ms": seen.p99_ms}
                    for concurrency, seen in levels.items()
                }
                for protocol, levels in result["served"].items()
            },
        }
        for model, result in results.items()
    }


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
                    print_table(model, results[model])
    except (ServerError, RepositoryError, PerfAnalyzerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(document(results), separators=(",", ":")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
