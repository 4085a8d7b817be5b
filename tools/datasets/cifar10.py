"""CIFAR-10, read by torchvision: 50,000 + 10,000 photographs of ten classes, 32x32 pixels, RGB."""

from pathlib import Path
from typing import Any

import numpy as np

from tools.datasets import Split
from tools.datasets.download import patience
from tools.datasets.files import reading, require
from tools.torchvision_import import load_torchvision

TITLE = "CIFAR-10"
STAND_IN = False
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FOLDER = "cifar-10-batches-py"
BATCH_FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")


def files(root: Path) -> list[Path]:
    """The batch files that torchvision looks for."""
    return [root / FOLDER / name for name in BATCH_FILES]


def source() -> str:
    """Address of the archive that a download fetches."""
    return str(load_torchvision().datasets.CIFAR10.url)


def splits(root: Path, download: bool) -> tuple[Split, Split]:
    """Training and test set.

    Raises:
        DataError: the files are damaged, or missing and not to be downloaded.
    """
    remedy = f"unpack cifar-10-python.tar.gz in {root}, or take the stand-in: --data silhouettes"
    with reading(TITLE, root / FOLDER, remedy), patience():
        if not download:
            require(files(root))
        return read(load_torchvision().datasets.CIFAR10, root, download)


def read(loader: Any, root: Path, download: bool) -> tuple[Split, Split]:
    """Both splits by torchvision's CIFAR10 class or a subclass of it."""
    train, test = (loader(str(root), train=train, download=download) for train in (True, False))
    return split(train), split(test)


def split(dataset: Any) -> Split:
    """A torchvision CIFAR10 data set as arrays."""
    return Split(np.ascontiguousarray(dataset.data), np.asarray(dataset.targets, np.int64))
