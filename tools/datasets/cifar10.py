"""CIFAR-10, read by torchvision: 50,000 + 10,000 photographs of ten classes, 32x32 pixels, RGB."""

from pathlib import Path
from typing import Any

import numpy as np

from tools.datasets import Split
from tools.datasets.files import network_timeout, reading, require
from tools.torchvision_import import load_torchvision

TITLE = "CIFAR-10"
STAND_IN = False
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FOLDER = "cifar-10-batches-py"
BATCH_FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")


def files(root: Path) -> list[Path]:
    """List the batch files that torchvision looks for."""
    return [root / FOLDER / name for name in BATCH_FILES]


def splits(root: Path, download: bool) -> tuple[Split, Split]:
    """Read the training and the test set; DataError if files are damaged, or missing without `download`."""
    remedy = f"unpack cifar-10-python.tar.gz in {root}, or use the stand-in: --data silhouettes"
    with reading(TITLE, root / FOLDER, remedy), network_timeout():
        if not download:
            require(files(root))
        return read(load_torchvision().datasets.CIFAR10, root, download)


def read(loader: Any, root: Path, download: bool) -> tuple[Split, Split]:
    """Read both splits with torchvision's CIFAR10 class or a subclass of it."""
    parts = (loader(str(root), train=train, download=download) for train in (True, False))
    train, test = (Split(np.ascontiguousarray(part.data), np.asarray(part.targets, np.int64)) for part in parts)
    return train, test
