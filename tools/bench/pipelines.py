"""Where images are best decoded and scaled: on the client, or by the server's pipelines.

    python -m tools.bench pipelines
    python -m tools.bench pipelines --concurrency 1 8 32 --seconds 2 --rounds 3

There are three ways to have an image file classified, from the bytes in memory to the label, over gRPC:

    tensor   the client decodes, scales and normalizes, and calls the classifier
    pixels   the client decodes, and the pipeline takes the pixels
    file     the client sends the file, and the pipeline decodes

They are measured at each concurrency in interleaved rounds, so that a slowdown of the machine affects all of them; the
figures are medians over the rounds. The clients' work counts; here they share the server's cores.
"""

import argparse
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np
from PIL import Image

from clients.client import Client
from clients.command import say, text_table
from clients.connection import Connection
from clients.images import Readers, image_files, image_readers
from tools.bench.options import BenchOptions, add_bench_arguments
from tools.repository import ROOT, RepositoryError, model_names, read_config, versions
from tools.serve.tritonserver import Options, Server

_SAMPLES = ROOT / "build" / "samples"
_PHOTO_SIZE = (640, 480)  # typical of web pages
_FILES = 8


@dataclass(frozen=True)
class _Way:
    name: str
    model: str


@dataclass(frozen=True)
class _Run:
    rate: float
    latencies_ms: list[float]


@dataclass(frozen=True)
class _Row:
    pipeline: str
    file: str
    callers: int
    way: str
    model: str
    images_per_s: float
    p50_ms: float | None
    p99_ms: float | None
    sent_bytes: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's options."""
    add_bench_arguments(
        parser, BenchOptions, "all pipelines that take files", [1, 8, 32], "each measurement", 1.0, rounds=3
    )


def run(options: BenchOptions) -> dict[str, Any]:
    """Measure all pipelines, print a table, and return its rows as "pipelines".

    Raises:
        RepositoryError: a pipeline has other steps than expected.
        ClientError: a request failed.
    """
    repository = options.repository.resolve()
    with (
        Server(Options(repository, hardware=options.hardware)) as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        pipelines = options.models or _file_pipelines(repository)
        rows = [row for name in pipelines for row in _bench(name, server.grpc, options, Path(folder))]
    documents = [asdict(row) for row in rows]
    columns = [name for name in documents[0] if name != "pipeline"]
    print(text_table([columns, *([str(document[name]) for name in columns] for document in documents)]))
    return {"pipelines": documents}


def _file_pipelines(repository: Path) -> list[str]:
    """The ensembles that take files and have a version."""
    built = [model for model in model_names(repository) if versions(model, repository)]
    configs = {model: read_config(model, repository=repository) for model in built}
    return [
        model for model, config in configs.items() if config.ensemble_scheduling.step and len(config.input[0].dims) == 1
    ]


def _ways(pipeline: str, repository: Path) -> list[_Way]:
    """The pipeline that takes files contains one that takes pixels, which contains the classifier."""

    def steps(model: str) -> list[str]:
        return [step.model_name for step in read_config(model, repository=repository).ensemble_scheduling.step]

    pixels = [model for model in steps(pipeline) if steps(model)]
    if len(pixels) != 1:
        raise RepositoryError(f"{pipeline}: expected one ensemble among its steps, got {', '.join(pixels) or 'none'}")
    classifier = next((model for model in steps(pixels[0]) if (_SAMPLES / model).is_dir()), None)
    if classifier is None:
        steps_named = ", ".join(steps(pixels[0]))
        raise RepositoryError(f"no samples in {_SAMPLES} for any of {steps_named}; export the classifier again")
    return [_Way("tensor", classifier), _Way("pixels", pixels[0]), _Way("file", pipeline)]


def _bench(pipeline: str, address: str, options: BenchOptions, folder: Path) -> list[_Row]:
    kinds, ways, runs = _pictures(pipeline, folder), _ways(pipeline, options.repository), defaultdict(list)
    for number in range(options.rounds):
        for kind, files in kinds.items():
            for callers in options.concurrency:
                say(f"{pipeline} round {number + 1}: {kind}, {callers} callers …")
                for way in ways:
                    runs[kind, callers, way].append(_load(way, files, address, callers, options.seconds))
    sizes = {(kind, way): _sent_bytes(way.model, files[0], address) for kind, files in kinds.items() for way in ways}
    return [
        _row(pipeline, kind, callers, way, rounds, sizes[kind, way]) for (kind, callers, way), rounds in runs.items()
    ]


def _pictures(model: str, folder: Path) -> dict[str, list[Path]]:
    """Files by kind: samples as they are, and as photos."""
    samples = image_files([_SAMPLES / model])
    samples = samples[:: max(1, len(samples) // _FILES)][:_FILES]
    return {"sample.png": samples, "photo.jpg": [_as_photo(path, folder / f"{path.stem}.jpg") for path in samples]}


def _as_photo(sample: Path, target: Path) -> Path:
    """Enlarge a sample and add some noise, since the file's size is what matters."""
    large = np.asarray(Image.open(sample).resize(_PHOTO_SIZE, Image.Resampling.BICUBIC), np.int16)
    noise = np.random.default_rng(0).integers(-8, 9, large.shape)
    Image.fromarray((large + noise).clip(0, 255).astype(np.uint8)).save(target, quality=90)
    return target


def _load(way: _Way, files: list[Path], address: str, callers: int, seconds: float) -> _Run:
    """Run a closed loop of callers, each of whom takes the files in turn."""

    def call(number: int) -> tuple[list[float], float]:
        latencies: list[float] = []
        with Client(Connection("grpc", address)) as client:
            readers = image_readers(client.contract(way.model))
            start.wait()
            first = time.perf_counter()
            while (began := time.perf_counter()) < first + seconds:
                _classify(client, way.model, readers, files[(number + len(latencies)) % len(files)])
                latencies.append((time.perf_counter() - began) * 1000)
        return latencies, time.perf_counter() - first

    start = threading.Barrier(callers)
    with ThreadPoolExecutor(callers) as pool:
        results = list(pool.map(call, range(callers)))
    latencies = [latency for own, _ in results for latency in own]
    # Requests in flight at the end are answered too, so the time is that of the last caller.
    return _Run(len(latencies) / max(lasted for _, lasted in results), latencies)


def _classify(client: Client, model: str, readers: Readers, file: Path) -> None:
    """Classify one file, and fetch the smallest outputs that tell the label."""
    read, finish = readers
    outputs = client.contract(model).outputs
    small = [spec.name for spec in outputs if spec.name in ("INDEX", "LABEL")] or [outputs[0].name]
    client.infer(model, finish(read(file)[None]), small)


def _sent_bytes(model: str, file: Path, address: str) -> int:
    with Client(Connection("grpc", address)) as client:
        read, finish = image_readers(client.contract(model))
        tensor = finish(read(file)[None])
    return len(tensor.item()) if tensor.dtype == np.object_ else tensor.nbytes


def _row(pipeline: str, kind: str, callers: int, way: _Way, rounds: Sequence[_Run], sent_bytes: int) -> _Row:
    rate = median(run.rate for run in rounds)
    levels = [quantiles(run.latencies_ms, n=100, method="inclusive") for run in rounds if len(run.latencies_ms) > 1]
    p50, p99 = (round(median(own[at] for own in levels), 2) if levels else None for at in (49, 98))
    return _Row(pipeline, kind, callers, way.name, way.model, round(rate, 1), p50, p99, sent_bytes)
