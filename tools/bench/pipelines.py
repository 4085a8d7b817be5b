"""Where a picture is best decoded and scaled: by the client, or by the server's pipelines.

    python -m tools.bench_pipelines
    python -m tools.bench_pipelines --concurrency 1 8 32 --seconds 2 --rounds 3

Three ways to have an image file classified, from the file in memory to the label, over gRPC:

    tensor   the client decodes, scales and normalises, and calls the classifier
    pixels   the client decodes, and the pipeline takes the pixels
    file     the client sends the file, and the pipeline decodes

Each way runs for some seconds at each concurrency, in rounds that go through all of them in turn, so that a machine
that slows down meets all alike; the figures are medians over the rounds. The clients' work counts, as it would on a
machine of their own; here they share the server's cores. The last line of stdout is one compact JSON document.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np
from PIL import Image

from clients.client import Client
from clients.connection import Connection
from clients.errors import ClientError
from clients.images import Readers, image_files, image_readers
from tools.repository import ROOT, RepositoryError, model_names, read_config, versions
from tools.serve.hardware import HARDWARE
from tools.serve.server_error import ServerError
from tools.serve.tritonserver import Options, Server

Document = dict[str, Any]
SAMPLES = ROOT / "build" / "samples"
# A photo as web pages have it; a sample enlarged, since what matters here is its size.
PHOTO = (640, 480)
FILES = 8


@dataclass(frozen=True)
class Way:
    """One of the ways: its name and the model that is called."""

    name: str
    model: str


@dataclass(frozen=True)
class Run:
    """What one way did in one round at one concurrency."""

    rate: float
    latencies_ms: list[float]


def ways(pipeline: str) -> list[Way]:
    """The three ways, from the pipeline that takes files: it holds one that takes pixels, and that a classifier.

    Raises:
        RepositoryError: the pipeline is not made so.
    """
    pixels = [step.model_name for step in steps(pipeline) if steps(step.model_name)]
    if len(pixels) != 1:
        raise RepositoryError(f"{pipeline}: expected one ensemble among its steps, got {', '.join(pixels) or 'none'}")
    classifier = next((step.model_name for step in steps(pixels[0]) if (SAMPLES / step.model_name).is_dir()), None)
    if classifier is None:
        raise RepositoryError(f"no samples of {pixels[0]}'s classifier in {SAMPLES}; export it again")
    return [Way("tensor", classifier), Way("pixels", pixels[0]), Way("file", pipeline)]


def steps(model: str) -> list[Any]:
    """The steps of an ensemble; none of another model."""
    return list(read_config(model).ensemble_scheduling.step)


def file_pipelines() -> list[str]:
    """The ensembles that take files and have a version."""
    configs = {model: read_config(model) for model in model_names() if versions(model)}
    return [
        model for model, config in configs.items() if config.ensemble_scheduling.step and len(config.input[0].dims) == 1
    ]


def pictures(model: str, folder: Path) -> dict[str, list[Path]]:
    """Files by kind: the samples as they are, and as photos."""
    samples = image_files([SAMPLES / model])
    samples = samples[:: max(1, len(samples) // FILES)][:FILES]
    return {"sample.png": samples, "photo.jpg": [as_photo(path, folder / f"{path.stem}.jpg") for path in samples]}


def as_photo(sample: Path, target: Path) -> Path:
    """A sample enlarged, with some grain, as a JPEG file."""
    large = np.asarray(Image.open(sample).resize(PHOTO, Image.Resampling.BICUBIC), np.int16)
    grain = np.random.default_rng(0).integers(-8, 9, large.shape)
    Image.fromarray((large + grain).clip(0, 255).astype(np.uint8)).save(target, quality=90)
    return target


def classify(client: Client, model: str, readers: Readers, file: Path) -> None:
    """One file on one of the ways; the answer is the smallest that says the label."""
    read, finish = readers
    wanted = client.contract(model).outputs
    small = [spec.name for spec in wanted if spec.name in ("INDEX", "LABEL")] or [wanted[0].name]
    client.infer(model, finish(read(file)[None]), small)


def load(way: Way, files: list[Path], address: str, users: int, seconds: float) -> Run:
    """So many callers at once, each with the next file as soon as it has its answer.

    Raises:
        ClientError: an answer was an error.
    """

    def call(number: int) -> tuple[list[float], float]:
        latencies: list[float] = []
        with Client(Connection("grpc", address)) as client:
            readers = image_readers(client.contract(way.model))
            start.wait()
            first = time.perf_counter()
            end = first + seconds
            while (began := time.perf_counter()) < end:
                classify(client, way.model, readers, files[(number + len(latencies)) % len(files)])
                latencies.append((time.perf_counter() - began) * 1000)
        return latencies, time.perf_counter() - first

    start = threading.Barrier(users)
    with ThreadPoolExecutor(users) as pool:
        answered = list(pool.map(call, range(users)))
    every = [latency for own, _ in answered for latency in own]
    # Those under way at the end are answered too, so the time is that of the last one.
    return Run(len(every) / max(lasted for _, lasted in answered), every)


def bench(pipeline: str, address: str, arguments: argparse.Namespace, folder: Path) -> list[Document]:
    """One row for each kind of file, concurrency and way."""
    kinds, runs = pictures(pipeline, folder), defaultdict(list)
    for number in range(arguments.rounds):
        for kind, files in kinds.items():
            for users in arguments.concurrency:
                print(f"{pipeline} round {number + 1}: {kind}, {users} callers …", file=sys.stderr)
                for way in ways(pipeline):
                    runs[kind, users, way].append(load(way, files, address, users, arguments.seconds))
    return [row(pipeline, kind, users, way, each) for (kind, users, way), each in runs.items()]


def row(pipeline: str, kind: str, users: int, way: Way, runs: list[Run]) -> Document:
    """The medians of one row."""
    latencies = [quantiles(run.latencies_ms, n=100, method="inclusive") for run in runs if len(run.latencies_ms) > 1]
    return {
        "pipeline": pipeline,
        "file": kind,
        "callers": users,
        "way": way.name,
        "model": way.model,
        "images_per_s": round(median(run.rate for run in runs), 1),
        "p50_ms": round(median(each[49] for each in latencies), 2) if latencies else None,
        "p99_ms": round(median(each[98] for each in latencies), 2) if latencies else None,
    }


def sent_bytes(rows: list[Document], address: str, folder: Path) -> None:
    """Add to each row what one picture takes on the wire."""
    with Client(Connection("grpc", address)) as client:
        for each in rows:
            read, finish = image_readers(client.contract(each["model"]))
            tensor = finish(read(pictures(each["pipeline"], folder)[each["file"]][0])[None])
            each["sent_bytes"] = len(tensor.item()) if tensor.dtype == np.object_ else tensor.nbytes


def print_table(rows: list[Document]) -> None:
    """The figures for people."""
    columns = ("file", "callers", "way", "model", "images_per_s", "p50_ms", "p99_ms", "sent_bytes")
    table = [columns, *(tuple(str(each[column]) for column in columns) for each in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(columns))]
    for line in table:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench_pipelines", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("pipelines", nargs="*", help="pipelines that take files (default: all)")
    parser.add_argument("--concurrency", nargs="+", type=int, default=[1, 8, 32], help="(default: 1 8 32)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement (default: 1)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--hardware", choices=HARDWARE, default="auto", help="as for tools.serve (default: auto)")
    return parser


def main() -> int:
    """Entry point."""
    arguments = parser().parse_args()
    try:
        with Server(Options(hardware=arguments.hardware)) as server, tempfile.TemporaryDirectory() as folder:
            rows = [
                measured
                for pipeline in arguments.pipelines or file_pipelines()
                for measured in bench(pipeline, server.grpc, arguments, Path(folder))
            ]
            sent_bytes(rows, server.grpc, Path(folder))
    except (ServerError, RepositoryError, ClientError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print_table(rows)
    print(json.dumps(rows, separators=(",", ":")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
