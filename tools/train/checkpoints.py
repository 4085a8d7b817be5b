"""Checkpoints of trainings: found by all that decides the weights, written whole, read with a clear error."""

import hashlib
import json
import os
import pickle
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from clients.images import ImageSpec
from tools import compression, recipes
from tools.datasets import ImageData
from tools.recipes import RecipeError
from tools.repository import ROOT
from tools.train.settings import Settings

CHECKPOINTS = ROOT / "build" / "checkpoints"


def checkpoint_path(lineage: list[Settings], data: ImageData, spec: ImageSpec) -> Path:
    """A file for each combination of recipes, settings, data and normalisation: none is taken for another's.

    The lineage begins with the training's own settings; those of the parent and teacher that it builds on follow.
    """
    sources = [Path(recipes.__path__[0], f"{settings.model}.py").read_text() for settings in lineage]
    if len(lineage) > 1:
        sources += sorted(_compression_sources())
    begun = [file.read_bytes() for file in (Path(one.weights) for one in lineage if one.weights) if file.is_file()]
    sources += [hashlib.sha256(content).hexdigest() for content in begun]
    decisive = json.dumps([sources, list(map(asdict, lineage)), data.sha256, asdict(spec)], sort_keys=True)
    digest = hashlib.sha256(decisive.encode()).hexdigest()[:12]
    return CHECKPOINTS / lineage[0].model / f"{data.name}-{digest}.pt"


def _compression_sources() -> Iterator[str]:
    """The code that variants call, as it read before `Change` had a file of its own: older checkpoints still count."""
    for path in Path(compression.__path__[0]).glob("*.py"):
        if path.stem != "change":
            yield path.read_text().replace("from tools.compression.change import", "from tools.recipes import")


def save(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, epochs: int) -> None:
    """Write a checkpoint beside its place, then rename: an interruption leaves the previous one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_suffix(f".{os.getpid()}")
    torch.save({"epochs": epochs, "network": network.state_dict(), "optimizer": optimizer.state_dict()}, staged)
    staged.replace(path)


def resume(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, settings: Settings) -> int:
    """Load the checkpoint if there is one; returns the epochs that it has seen.

    Raises:
        RecipeError: the file is damaged.
    """
    if not path.is_file():
        return 0
    try:
        checkpoint = torch.load(path, map_location=settings.device, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise RecipeError(f"the checkpoint {path} is damaged; begin again with --fresh") from error
    network.load_state_dict(checkpoint["network"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    return int(checkpoint["epochs"])
