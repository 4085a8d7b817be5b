"""A family of models measured through one server: accuracy, size, memory, latency and throughput of each member."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from clients.client import Client
from clients.command import progress, say
from clients.connection import Connection, Protocol
from loadtest.analysis.intervals import paired_p_value, wilson_interval
from tools import recipes
from tools.bench.copies import write_copies, write_copy
from tools.bench.perf_analyzer import measure
from tools.datasets import ImageData
from tools.recipes import Recipe, RecipeError
from tools.repository import REPOSITORY, RepositoryError, read_manifest, version_path, versions
from tools.serve.tritonserver import Options, Server
from tools.serve.usage import memory_by_model

Right = npt.NDArray[np.bool_]  # [images]: whether the answer was right
_READY_SECONDS = 300.0


@dataclass(frozen=True)
class Effort:
    """How speed is measured.

    Attributes:
        rounds: through all members, so that a machine that slows down slows all of them.
        seconds: of each of three windows.
        concurrency: that saturates the server.
    """

    rounds: int = 3
    seconds: float = 1.0
    concurrency: int = 32
    protocol: Protocol = "http"

    def __str__(self) -> str:
        return f"{self.protocol}, concurrency 1 and {self.concurrency}, {self.rounds} rounds"


@dataclass(frozen=True)
class Member:
    """One model of a family, measured.

    Attributes:
        low, high: the 95 % interval of its accuracy.
        difference: accuracy minus the root's on the same images; p_value says how likely it is by chance.
        memory_bytes: what loading it adds to the server.
        latency_ms: median of single requests.
        rate: inferences per second at the concurrency that saturates the server, between rate_low and rate_high in
            all rounds.
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
    memory_bytes: int
    latency_ms: float
    rate: float
    rate_low: float
    rate_high: float


def root(model: str) -> str:
    """The model that a variant, a variant of a variant … began as; a model without a parent is its own root."""
    parent = recipes.trained(model).parent
    return root(parent) if parent else model


def family(model: str) -> list[str]:
    """The root of a model, all of its variants, and the teachers that they learned from; the root first."""
    top = root(model)
    trained = [name for name in recipes.names() if isinstance(recipes.load(name), Recipe)]
    variants = {name for name in trained if root(name) == top}
    teachers = {teacher for name in variants if (teacher := recipes.trained(name).teacher)}
    if len(variants | teachers) < 2:
        raise RecipeError(f'{model} has no variants to compare with; a recipe with parent="{model}" makes one')
    return [top, *sorted((variants | teachers) - {top})]


def measure_family(
    model: str, effort: Effort, hardware: str = "auto", repository: Path = REPOSITORY
) -> tuple[list[Member], ImageData]:
    """Serve a model's family and measure its members; returns them, the root first, and the data of their tests.

    Raises RepositoryError if fewer than two members have a version, or they were trained on different data.
    """
    from tools.train import training  # It imports torch, which `--help` can do without.

    members = built(family(model), repository)
    _refuse_other_data(members, repository)
    data = training.load_data(recipes.trained(members[0]), _manifest(members[0], repository)["data"]["name"])
    with tempfile.TemporaryDirectory() as scratch:
        copies = write_copies(members, Path(scratch), repository)
        # A copy of the root that is loaded before memory is measured: what it adds includes libtorch.
        baseline = write_copy(members[0], copies, repository, "baseline")
        flags = ["--model-control-mode=explicit"]
        with Server(Options(copies, hardware=hardware, ready_timeout=_READY_SECONDS, flags=flags)) as server:
            with Client(Connection("grpc", server.grpc, timeout_s=_READY_SECONDS)) as client:
                client.load(baseline)
                memory = memory_by_model(server.pid, client, members)
                right = {name: _right(client, name, data, repository) for name in members}
            speeds = _speeds(members, server, effort)
    reference = right[members[0]]
    return [_member(name, repository, right[name], reference, memory[name], *speeds[name]) for name in members], data


def built(members: Sequence[str], repository: Path) -> list[str]:
    """The members of a family, its root first, that have a version; says which command makes the others.

    Raises RepositoryError if there are fewer than two, or the root has none.
    """
    found = [name for name in members if versions(name, repository)]
    if missing := " ".join(name for name in members if name not in found):
        say(f"not compared, no version: run `python -m tools.export {missing}`")
    if len(found) < 2 or found[0] != members[0]:
        names = ", ".join(found) or "none"
        raise RepositoryError(f"nothing to compare: of the family of {members[0]}, only {names} is built")
    return found


def _refuse_other_data(members: Sequence[str], repository: Path) -> None:
    data = {name: _manifest(name, repository)["data"]["name"] for name in members}
    if len(set(data.values())) > 1:
        raise RepositoryError(
            f"the family of {members[0]} was trained on different data: {data}; export it on one of them"
        )


def _manifest(model: str, repository: Path) -> dict[str, Any]:
    return read_manifest(model, versions(model, repository)[-1], repository)


def _right(client: Client, model: str, data: ImageData, repository: Path) -> Right:
    from tools.train import training

    spec, contract = training.input_spec(model, repository), client.contract(model)
    size, output = contract.max_batch_size, contract.outputs[0].name
    predicted = []
    for start in progress(range(0, len(data.test_labels), size), f"{model}: test set"):
        images = training.inputs(data.test_images[start : start + size], spec).numpy()
        predicted.append(client.infer(model, images, [output])[output].argmax(1))
    return np.asarray(np.concatenate(predicted) == data.test_labels, np.bool_)


def _speeds(members: Sequence[str], server: Server, effort: Effort) -> dict[str, tuple[float, list[float]]]:
    """Latency of single requests in ms, the median of the rounds, and the saturated rate of each round."""
    url = server.address(effort.protocol)
    latencies: dict[str, list[float]] = {name: [] for name in members}
    rates: dict[str, list[float]] = {name: [] for name in members}
    for name in progress([*members] * effort.rounds, "speed"):
        latencies[name].append(measure(name, url, effort.protocol, 1, effort.seconds).p50_ms)
        rates[name].append(measure(name, url, effort.protocol, effort.concurrency, effort.seconds).rate)
        server.check()
    return {name: (median(latencies[name]), rates[name]) for name in members}


def _member(
    name: str, repository: Path, right: Right, root: Right, memory: int, latency_ms: float, rates: Sequence[float]
) -> Member:
    manifest = _manifest(name, repository)
    low, high = wilson_interval(int(right.sum()), len(right))
    path = version_path(name, manifest["version"], repository) / manifest["file"]["name"]
    return Member(
        name=name,
        version=manifest["version"],
        accuracy=float(right.mean()),
        low=low,
        high=high,
        difference=float(right.mean() - root.mean()),
        p_value=paired_p_value(right, root),
        file_bytes=path.stat().st_size,
        parameters=manifest.get("parameters", 0),
        memory_bytes=memory,
        latency_ms=latency_ms,
        rate=median(rates),
        rate_low=min(rates),
        rate_high=max(rates),
    )
