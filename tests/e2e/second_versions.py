"""Further versions of the digit classifier, made in a moment, and callers that never stop asking for it."""

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
from tools import references, torchscript
from tools.repository import MANIFEST_FILE, held_versions, read_manifest, staged_version, versions
from tools.tritonserver import Options, Server

MODEL = "mnist_mlp"
Change = Callable[[nn.Module], nn.Module | None]
DIGIT = np.full((1, 784), 0.5, np.float32)


def alone(built: Path, folder: Path) -> Path:
    """A repository with the digit classifier alone."""
    shutil.copytree(built / MODEL, folder / MODEL)
    return folder


def explicit(repository: Path) -> Options:
    """Options of a server that takes load requests."""
    return Options(repository, flags=("--model-control-mode=explicit", f"--load-model={MODEL}"))


def add_version(repository: Path, change: Change, held: bool = True) -> int:
    """Publish the first version's network, changed, as the next version; its number.

    Its manifest names no checkpoint that exists, as one that was trained elsewhere: its own file is what it answers.
    """
    newest = max(versions(MODEL, repository) + held_versions(MODEL, repository))
    manifest = read_manifest(MODEL, versions(MODEL, repository)[0], repository)
    network = references.rebuilt(MODEL, manifest, repository)
    with torch.no_grad():
        network = change(network) or network
    with staged_version(MODEL, newest + 1, repository, held) as folder:
        torchscript.save(network, folder / "model.pt")
        file = {**manifest["file"], "sha256": hashlib.sha256((folder / "model.pt").read_bytes()).hexdigest()}
        about = {**manifest, "version": newest + 1, "checkpoint": "elsewhere.pt", "file": file}
        (folder / MANIFEST_FILE).write_text(json.dumps(about))
    return newest + 1


def as_good(network: nn.Module) -> None:
    """Other logits, the same classes."""
    for parameter in network.get_submodule("network.fc3").parameters():
        parameter.mul_(1.5)


def worse(network: nn.Module) -> None:
    """Loses three digits in a hundred or so: too few for the recipe's floor to see."""
    noise = torch.Generator().manual_seed(3)
    weight = network.get_parameter("network.fc3.weight")
    weight.add_(0.05 * torch.randn(weight.shape, generator=noise))


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
    """What the callers' digit is answered with, in short."""
    with Client(connection) as client:
        return float(client.infer(MODEL, DIGIT)["OUTPUT__0"][0, 0])


@dataclass
class Seen:
    """What callers got: the first logit of each answer in order, and every failure."""

    answers: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def both(server: Server) -> list[Connection]:
    """A server over both protocols."""
    return [connection_to(server, protocol) for protocol in PROTOCOLS]


@contextmanager
def constant_load(connections: Sequence[Connection], callers: int = 1) -> Iterator[Seen]:
    """Callers over each connection, who ask for the same digit again and again; the block sees what they got."""
    seen, stop = Seen(), threading.Event()

    async def ask(connection: Connection) -> None:
        async with AsyncClient(connection) as client:
            while not stop.is_set():
                try:
                    seen.answers.append(float((await client.infer(MODEL, DIGIT))["OUTPUT__0"][0, 0]))
                except Exception as error:  # Whatever it is: it is a request that failed.
                    seen.failures.append(repr(error))
                # A steady rate: callers that take all of the processors would only make everything else wait.
                await asyncio.sleep(0.005)

    async def everybody() -> None:
        # No second try: a request that has to be repeated has failed.
        chosen = [replace(one, retries=0) for one in connections] * callers
        await asyncio.gather(*map(ask, chosen))

    thread = threading.Thread(target=lambda: asyncio.run(everybody()))
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()
