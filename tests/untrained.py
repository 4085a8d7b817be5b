"""An untrained version of the digit classifier, whose eager network can be rebuilt instantly."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from tools import datasets, torchscript
from tools.export.preparation import final_network
from tools.repository import MANIFEST_FILE, staged_version, versions
from tools.train import training
from tools.train.settings import Settings

MODEL = "mnist_mlp"


def add_untrained(repository: Path) -> int:
    """Publish it as the next version; returns its number."""
    data = datasets.load("digits")
    settings = Settings(MODEL, "digits", epochs=0, batch_size=64, lr=1e-3, seed=0, device="cpu")
    trained = training.train(settings, data, repository=repository)
    version = versions(MODEL, repository)[-1] + 1
    with staged_version(MODEL, version, repository) as folder:
        torchscript.save(final_network(trained, repository), folder / "model.pt")
        about = {
            "model": MODEL,
            "version": version,
            "training": {key: value for key, value in asdict(settings).items() if key not in ("model", "data")},
            "checkpoint": trained.checkpoint,
            "data": data.reference,
            "file": {"name": "model.pt", "sha256": hashlib.sha256((folder / "model.pt").read_bytes()).hexdigest()},
        }
        (folder / MANIFEST_FILE).write_text(json.dumps(about))
    return version
