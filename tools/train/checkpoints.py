"""Checkpoints: named after everything that decides the weights, written atomically, read with a clear error."""

import hashlib
import json
import os
import pickle
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from clients.images import ImageSpec
from tools import compression
from tools.datasets import ImageData
from tools.recipes import RecipeError
from tools.repository import RECIPES, ROOT
from tools.train.settings import Settings

CHECKPOINTS = ROOT / "build" / "checkpoints"


def checkpoint_path(lineage: list[Settings], data: ImageData, spec: ImageSpec) -> Path:
    """The file for one combination of recipes, settings, data and normalisation; any difference gives another file.

    The lineage holds the training's own settings, then those of the parent and teacher that it builds on.
    """
    sources = [(RECIPES / f"{settings.model}.py").read_text() for settings in lineage]
    if len(lineage) > 1:
        # As the code read before `Change` had a file of its own, so that checkpoints from then are still found.
        before, now = "from tools.recipes import", "from tools.compression.change import"
        files = [path for path in Path(compression.__path__[0]).glob("*.py") if path.stem != "change"]
        sources += sorted(path.read_text().replace(now, before) for path in files)
    weights = (Path(settings.weights) for settings in lineage if settings.weights)
    sources += [hashlib.sha256(file.read_bytes()).hexdigest() for file in weights if file.is_file()]
    decisive = json.dumps([sources, list(map(asdict, lineage)), data.sha256, asdict(spec)], sort_keys=True)
    digest = hashlib.sha256(decisive.encode()).hexdigest()[:12]
    return CHECKPOINTS / lineage[0].model / f"{data.name}-{digest}.pt"


def save(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, epochs: int) -> None:
    """Write a checkpoint in one rename: an interruption leaves the previous one intact."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_suffix(f".{os.getpid()}")
    torch.save({"epochs": epochs, "network": network.state_dict(), "optimizer": optimizer.state_dict()}, staged)
    staged.replace(path)


def resume(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, settings: Settings) -> int:
    """Load the checkpoint, if there is one; return the epochs that it has seen, or raise RecipeError if damaged."""
    if not path.is_file():
        return 0
    try:
        checkpoint = torch.load(path, map_location=settings.device, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise RecipeError(f"the checkpoint {path} is damaged; start over with --fresh") from error
    network.load_state_dict(checkpoint["network"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    return int(checkpoint["epochs"])
