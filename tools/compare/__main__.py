"""Compare a model with its variants through the real server: `python -m tools.compare cifar10_cnn`.

One run serves the whole family and measures, for each member: accuracy on the test set with its 95 % interval and
the paired difference from the root, size and parameters, memory of a loaded instance, latency of single requests and
saturated throughput. Speed is measured with perf_analyzer in rounds that go through all members in turn, so that a
machine that slows down slows all of them. The page with the plot goes to build/compare/<model>.html; the last line of
stdout is one compact JSON document.

    python -m tools.compare mnist_mlp
    python -m tools.compare cifar10_cnn --rounds 5 --seconds 3
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from clients.client import Client
from clients.command import progress
from clients.connection import Connection
from clients.errors import ClientError
from tools import recipes
from tools.bench.copies import write_copies
from tools.bench.perf_analyzer import Measurement, PerfAnalyzerError, measure
from tools.compare import comparison
from tools.compare.family import family
from tools.datasets import DataError, ImageData
from tools.recipes import RecipeError
from tools.repository import REPOSITORY, ROOT, RepositoryError, read_manifest, version_path, versions
from tools.serve.hardware import HARDWARE
from tools.serve.instances import instances, private_bytes
from tools.serve.server_error import ServerError
from tools.serve.tritonserver import Options, Server
from tools.significance import Right, accuracy_interval, front, paired_p_value
from tools.train import training

PAGES = ROOT / "build" / "compare"


@dataclass(frozen=True)
class Member:
    """One model of a family, measured.

    Attributes:
        difference: accuracy minus the root's on the same images; p_value says how likely it is by chance.
        memory_bytes: private memory of one loaded instance; None where the server runs models in its own process.
        latency_ms: median of single requests.
        rate: inferences per second at the concurrency that saturates the server.
    """

    name: str
    version: int
    accuracy: float
    low: float
    high: float
    difference: float
    p_value: float
    file_bytes: int
    parameters: int
    memory_bytes: int | None
    latency_ms: float
    rate: float


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="python -m tools.compare", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", help="any member of the family")
    parser.add_argument("--rounds", type=int, default=3, help="through all members (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each of three windows (default: %(default)s)")
    parser.add_argument("--concurrency", type=int, default=32, help="that saturates the server (default: %(default)s)")
    parser.add_argument("--protocol", choices=("http", "grpc"), default="http", help="(default: %(default)s)")
    parser.add_argument("--hardware", choices=HARDWARE, default="auto", help="as for tools.serve (default: auto)")
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help="(default: %(default)s)")
    parser.add_argument("--output", type=Path, default=PAGES, help="folder of the page (default: %(default)s)")
    return parser


def built(model: str, repository: Path) -> list[str]:
    """The members of the family that have a version; the others are named with the command that makes them.

    Raises:
        RepositoryError: fewer than two have one, or they were trained on different data.
    """
    members = family(model)
    there = [name for name in members if versions(name, repository)]
    missing = [name for name in members if name not in there]
    if missing:
        print(f"not compared, no version: run `python -m tools.export {' '.join(missing)}`", file=sys.stderr)
    if len(there) < 2 or there[0] != members[0]:
        raise RepositoryError(
            f"nothing to compare: of the family of {model}, only {', '.join(there) or 'none'} is built"
        )
    data = {name: manifest(name, repository)["data"]["name"] for name in there}
    if len(set(data.values())) > 1:
        raise RepositoryError(f"the family of {model} was trained on different data: {data}; export it on one of them")
    return there


def manifest(model: str, repository: Path) -> dict[str, Any]:
    """What the newest version of a model is."""
    return read_manifest(model, versions(model, repository)[-1], repository)


def answers(client: Client, model: str, data: ImageData, repository: Path) -> Right:
    """For each test image, whether the server's answer is right."""
    spec, size = training.input_spec(model, repository), client.contract(model).max_batch_size
    starts = range(0, len(data.test_labels), size)
    output = client.contract(model).outputs[0].name
    chosen = []
    for at in progress(starts, f"{model}: test set"):
        images = training.inputs(data.test_images[at : at + size], spec).numpy()
        chosen.append(client.infer(model, images, [output])[output].argmax(1))
    right: Right = np.concatenate(chosen) == data.test_labels
    return right


def speeds(members: list[str], server: Server, arguments: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """Median latency of single requests in ms and saturated rate, each the median of the rounds."""
    url = server.address(arguments.protocol)
    seen: dict[str, list[tuple[Measurement, Measurement]]] = {name: [] for name in members}
    steps = [name for _ in range(arguments.rounds) for name in members]
    for name in progress(steps, "speed"):
        single, many = (
            measure(name, url, arguments.protocol, concurrency, arguments.seconds)
            for concurrency in (1, arguments.concurrency)
        )
        seen[name].append((single, many))
        server.check()
    return {
        name: (median(single.p50_ms for single, _ in rounds), median(many.rate for _, many in rounds))
        for name, rounds in seen.items()
    }


def compare(arguments: argparse.Namespace) -> list[Member]:
    """Serve the family and measure all of it."""
    repository = arguments.repository.resolve()
    members = built(arguments.model, repository)
    data = training.load_data(recipes.trained(members[0]), manifest(members[0], repository)["data"]["name"])
    with tempfile.TemporaryDirectory() as scratch:
        copies = write_copies(members, Path(scratch), repository)
        with Server(Options(copies, hardware=arguments.hardware, ready_timeout=300)) as server:
            with Client(Connection("grpc", server.grpc)) as client:
                right = {name: answers(client, name, data, repository) for name in members}
            memory = {model: private_bytes(pid) for pid, model in instances(server.pid).items()}
            speed = speeds(members, server, arguments)
    return [member(name, right, right[members[0]], memory, speed[name], repository) for name in members]


def member(
    name: str,
    right: dict[str, Right],
    root: Right,
    memory: dict[str, int],
    speed: tuple[float, float],
    repository: Path,
) -> Member:
    """Put one model's figures together."""
    own, stated = right[name], manifest(name, repository)
    low, high = accuracy_interval(own)
    path = version_path(name, stated["version"], repository) / stated["file"]["name"]
    return Member(
        name=name,
        version=stated["version"],
        accuracy=float(own.mean()),
        low=low,
        high=high,
        difference=float(own.mean() - root.mean()),
        p_value=paired_p_value(own, root),
        file_bytes=path.stat().st_size,
        parameters=stated.get("parameters", 0),
        memory_bytes=memory.get(name),
        latency_ms=speed[0],
        rate=speed[1],
    )


def main() -> int:
    """Entry point."""
    arguments = parser().parse_args()
    try:
        members = compare(arguments)
    except (ClientError, DataError, PerfAnalyzerError, RecipeError, RepositoryError, ServerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    best = front({one.name: (one.accuracy, one.rate) for one in members})
    setting = f"{arguments.protocol}, concurrency 1 and {arguments.concurrency}, {arguments.rounds} rounds"
    data = manifest(members[0].name, arguments.repository)["data"]["title"]
    page = comparison.write(members, best, f"{data}; {setting}", arguments.output)
    print(comparison.text(members, best))
    print(f"Page: {page}", file=sys.stderr)
    document = {"front": best, "data": data, "models": {one.name: asdict(one) for one in members}}
    print(json.dumps(document, separators=(",", ":")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
