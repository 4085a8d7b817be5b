"""A day with one clone: what the pages tell people to write into the repository, in their order, and then backwards.

No command may leave behind what `tools.check` refuses, or what the next `make serve` does not start on.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from clients.client import Client
from clients.connection import Connection
from tests.conftest import copied
from tests.interpreter import Interpreter
from tests.pages import Command, pages
from tools.check.rules import Scope, check
from tools.repository import CPU_CONFIG, ROOT, config_path, model_names, read_config, versions
from tools.serve.tritonserver import Options, Server

pytestmark = pytest.mark.slow
WRITERS = {"tools.new", "tools.export", "tools.sign", "tools.tune", "tools.versions"}
# Appended to commands of the pages that begin like this, so that they take seconds.
SHORTER = {
    ("tools.tune", "mnist_mlp"): ("--budget", "4s", "--trial", "0.4", "--warm-up", "0.1"),
    ("tools.export", "mnist_mlp", "--seed"): ("--epochs", "2"),
}
MINUTES, ELSEWHERE = "trains for minutes or downloads", "writes to another repository, and is run with its page"
AGAIN, ROLLOUT = "writes as another command of the day does", "is promoted as promote does: tests/e2e/test_rollout.py"
REPLICAS = "needs three replicas: tests/e2e/test_waves.py"
LEFT_OUT = {
    "--repository build/brought": ELSEWHERE,
    "--data cifar10": MINUTES,
    "cifar10_cnn_int8": MINUTES,
    "smollm2": MINUTES,
    "my_llama": ELSEWHERE,
    "--weights IMAGENET1K_V1": MINUTES,
    "scorer": AGAIN,
    "bags": AGAIN,
    "unet": AGAIN,
    "towers.py:Towers --example": AGAIN,
    "--objective": AGAIN,
    "tools.tune mnist_mlp --slo 'p99<20ms' --url": AGAIN,
    "mnist_mlp=3": AGAIN,
    "--lr 0.0005": AGAIN,
    "rollout": ROLLOUT,
    "127.0.0.1:8010": REPLICAS,
}
# Steps in Python, and what contains them, would add a process each to every start of a server.
SLOW_TO_START = ("image_decode", "digit_label", "cifar10_label", "digit_image_bytes", "cifar10_image_bytes")
TOWERS = """import torch
from torch import nn


class Towers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(1000, 6), nn.Linear(6, 6)

    def forward(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        return (self.users(user[:, 0]) * self.items(item)).sum(1, keepdim=True)
"""


def commands() -> Iterator[Command]:
    """What the pages tell people to write, except what is left out."""
    for page in pages():
        for command in page.commands():
            writes = command.program[-1] in WRITERS or "--fix" in command.options
            reads = command.arguments[1:2] == ("list",)
            if writes and not reads and not any(words in str(command) for words in LEFT_OUT):
                yield command


class Clone:
    """A clone of this repository with built models, and with the files that the pages take for granted."""

    def __init__(self, folder: Path, built: Path, interpreter: Interpreter):
        ignored = shutil.ignore_patterns("__pycache__")
        for name in ("clients", "loadtest", "tools"):
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        for name in ("checkpoints", "native"):  # No native backend without a compiler.
            if (ROOT / "build" / name).is_dir():
                shutil.copytree(ROOT / "build" / name, folder / "build" / name)
        (folder / "data").symlink_to(ROOT / "data")
        self.interpreter = interpreter
        self.folder, self.models = folder, copied(built, folder / "model_repository")
        for name in SLOW_TO_START:
            shutil.rmtree(self.models / name)
            (folder / "tools" / "recipes" / f"{name}.py").unlink()
        (folder / "towers.py").write_text(TOWERS)
        self.sound: dict[Path, int] = {}
        scope: dict[str, type[torch.nn.Module]] = {}
        exec(TOWERS, scope)
        torch.save(scope["Towers"]().state_dict(), folder / "towers.pt")

    def run(self, module: str, *arguments: str, server: Server | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command as a person would, with this clone in place of other repositories."""
        places = {"/srv/models": str(self.models), **({"127.0.0.1:8000": server.http} if server else {})}
        line = (module, *arguments)
        shorter = [word for start, words in SHORTER.items() if line[: len(start)] == start for word in words]
        words = [places.get(word, word) for word in (*arguments, *shorter)]
        return self.interpreter.run(module, *words, cwd=self.folder, timeout=120, variables={})

    def assert_sound(self, after: str) -> None:
        """The checker has no error, and a server starts on the models whose files have changed, and answers."""
        files = {path: path.stat().st_mtime_ns for path in self.models.rglob("*") if path.is_file()}
        changed = {path.relative_to(self.models).parts[0] for path, _ in files.items() ^ self.sound.items()}
        if not changed:
            return
        unbuilt = frozenset(name for name in model_names(self.models) if not versions(name, self.models))
        errors = [found for found in check(self.models, Scope(unbuilt=unbuilt)) if found.severity == "error"]
        assert errors == [], after
        served = (changed | {"digit_image"}) & (set(model_names(self.models)) - unbuilt)
        flags = ("--model-control-mode=explicit", *(f"--load-model={name}" for name in served))
        with Server(Options(self.models, flags=flags)) as server, Client(Connection("http", server.http)) as client:
            assert served <= {entry["name"] for entry in client.models() if entry.get("state") == "READY"}, after
            answer = client.infer("digit_image", np.zeros((64, 28, 28, 1), np.uint8))
            assert answer["PROBABILITIES"].shape == (64, 10), after
        self.sound = files


@pytest.fixture
def clone(built: Path, tmp_path: Path, interpreter: Interpreter) -> Clone:
    return Clone(tmp_path / "clone", built, interpreter)


def test_every_command_that_writes_leaves_a_repository_that_is_valid_and_served(clone: Clone) -> None:
    refused = []
    for command in commands():
        if "--url" in command.options:
            flags = ("--model-control-mode=explicit", "--load-model=mnist_mlp")
            with Server(Options(clone.models, flags=flags)) as server:
                done = clone.run(command.program[-1], *command.arguments, server=server)
        else:
            done = clone.run(command.program[-1], *command.arguments)
        if done.returncode:
            # Such as a promotion of what is served already: refused in few words.
            assert done.returncode in (1, 2) and "Traceback" not in done.stderr, f"{command}: {done.stderr}"
            refused.append(str(command))
        clone.assert_sound(str(command))
    # On a busy machine the tuner may find nothing that is fast enough.
    assert len(refused) < 4, refused
    assert_backwards(clone)


def assert_backwards(clone: Clone) -> None:
    """Undo the day: older versions, then only the served one, then no tuned config and no model that was brought."""
    while len(versions("mnist_mlp", clone.models)) > 1:
        assert clone.run("tools.versions", "mnist_mlp", "rollback").returncode == 0
        clone.assert_sound("rollback")
    assert clone.run("tools.versions", "mnist_mlp", "prune", "--keep", "1").returncode == 0
    clone.assert_sound("prune")
    tuned = config_path("mnist_mlp", CPU_CONFIG, clone.models)
    assert read_config("mnist_mlp", CPU_CONFIG, clone.models).max_batch_size == 64
    tuned.unlink()
    shutil.rmtree(clone.models / "towers")
    (clone.folder / "tools" / "recipes" / "towers.py").unlink()
    clone.sound.clear()  # All models once more.
    clone.assert_sound("a return to where it began")
