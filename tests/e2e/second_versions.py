"""Further versions of the digit classifier, made in a moment, and constant load on it."""

import asyncio
import hashlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from clients.aio import AsyncClient
from clients.client import Client
from clients.connection import PROTOCOLS, Connection
from tests.conftest import connection_to
from tools import torchscript
from tools.repository import MANIFEST_FILE, held_versions, read_manifest, staged_version, version_path, versions
from tools.serve.tritonserver import Options, Server

MODEL = "mnist_mlp"
Change = Callable[[nn.Module], nn.Module]
DIGIT = np.full((1, 784), 0.5, np.float32)


def alone(built: Path, folder: Path) -> Path:
    """A repository with the digit classifier alone."""
    shutil.copytree(built / MODEL, folder / MODEL)
    return folder


def explicit(repository: Path) -> Options:
    """Options of a server that takes load requests."""
    return Options(repository, flags=("--model-control-mode=explicit", f"--load-model={MODEL}"))


def add_version(repository: Path, change: Change, held: bool = True) -> int:
    """Publish the first version's network, changed, as the next version; returns its number.

    Its manifest names a checkpoint that nobody has, as if it had been trained elsewhere.
    """
    newest = max(versions(MODEL, repository) + held_versions(MODEL, repository))
    first = versions(MODEL, repository)[0]
    manifest = read_manifest(MODEL, first, repository)
    network = change(torchscript.load(version_path(MODEL, first, repository) / "model.pt"))
    with staged_version(MODEL, newest + 1, repository, held) as folder:
        torchscript.save(network, folder / "model.pt")
        file = {**manifest["file"], "sha256": hashlib.sha256((folder / "model.pt").read_bytes()).hexdigest()}
        about = {**manifest, "version": newest + 1, "checkpoint": "elsewhere.pt", "file": file}
        about.pop("golden", None)  # Its answers are the first one's.
        (folder / MANIFEST_FILE).write_text(json.dumps(about))
    return newest + 1


class Scaled(nn.Module):
    """Other logits: multiplied, and moved by as much for each class."""

    def __init__(self, network: nn.Module, factor: float, shift: float = 0.0) -> None:
        super().__init__()
        self.network, self.factor = network, factor
        self.register_buffer("shift", shift * torch.randn(10, generator=torch.Generator().manual_seed(3)))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits, features = self.network(image)
        return self.factor * logits + self.shift, features


def as_good(network: nn.Module) -> nn.Module:
    """Other logits, the same classes."""
    return Scaled(network, 1.5)


def worse(network: nn.Module) -> nn.Module:
    """Loses some digits in a hundred, by a bias towards some classes."""
    return Scaled(network, 1.0, shift=2.0)


def turned(network: nn.Module) -> nn.Module:
    """Predicts the least likely class."""
    return Scaled(network, -1.0)


class Broken(nn.Module):
    """Fails on every request but the ones that are all zeros, as warmup's are."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        if bool(image.any()):
            raise ValueError("broken")
        logits, features = self.network(image)
        return logits, features


def first_logit(connection: Connection) -> float:
    """The first logit of the answer to the callers' digit."""
    with Client(connection) as client:
        return float(client.infer(MODEL, DIGIT)["OUTPUT__0"][0, 0])


@dataclass
class Seen:
    """What callers got: the first logit of each answer in order, and every failure.

    Two callers may be answered in another order than they are served in: `by_caller` has each one's own.
    """

    by_caller: list[list[float]] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def both(server: Server) -> list[Connection]:
    """A server over both protocols."""
    return [connection_to(server, protocol) for protocol in PROTOCOLS]


@contextmanager
def constant_load(connections: Sequence[Connection], callers: int = 1) -> Iterator[Seen]:
    """Callers over each connection that send the same digit over and over; yields what they got."""
    seen, stop = Seen(), threading.Event()

    async def ask(connection: Connection) -> None:
        own: list[float] = []
        seen.by_caller.append(own)
        async with AsyncClient(connection) as client:
            while not stop.is_set():
                try:
                    own.append(float((await client.infer(MODEL, DIGIT))["OUTPUT__0"][0, 0]))
                    seen.answers.append(own[-1])
                except Exception as error:  # Whatever it is: it is a request that failed.
                    seen.failures.append(repr(error))
                # A steady rate: callers that take all of the processors would only make everything else wait.
                await asyncio.sleep(0.005)

    async def everybody() -> None:
        # No second try: a request that has to be repeated has failed.
        without_retries = [replace(connection, retries=0) for connection in connections]
        await asyncio.gather(*map(ask, without_retries * callers))

    thread = threading.Thread(target=lambda: asyncio.run(everybody()))
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()
