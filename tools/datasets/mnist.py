"""MNIST, read by torchvision: 60,000 + 10,000 handwritten digits, 28x28 pixels, one channel."""

from pathlib import Path
from typing import Any

import numpy as np

from tools.datasets import Split
from tools.datasets.files import network_timeout, reading, require
from tools.torchvision_import import load_torchvision

TITLE = "MNIST"
STAND_IN = False
CLASSES = tuple("0123456789")
IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def files(root: Path) -> list[Path]:
    """List the four uncompressed files that torchvision looks for."""
    return [root / "MNIST" / "raw" / name for name in IDX_FILES]


def splits(root: Path, download: bool) -> tuple[Split, Split]:
    """Read the training and the test set; DataError if files are damaged, or missing without `download`."""
    folder = root / "MNIST" / "raw"
    remedy = f"put the four uncompressed files {', '.join(IDX_FILES)} there, or use the stand-in: --data digits"
    with reading(TITLE, folder, remedy), network_timeout():
        if not download:
            require(files(root))
        return read(load_torchvision().datasets.MNIST, root, download)


def read(loader: Any, root: Path, download: bool) -> tuple[Split, Split]:
    """Read both splits with torchvision's MNIST class or a subclass of it."""
    train, test = (_split(loader(str(root), train=train, download=download)) for train in (True, False))
    return train, test


def _split(dataset: Any) -> Split:
    # torchvision checks neither the size of the images nor the number of labels.
    images, labels = dataset.data.numpy()[..., np.newaxis], dataset.targets.numpy().astype(np.int64)
    if images.shape != (len(labels), 28, 28, 1):
        raise ValueError(f"expected {len(labels)} images of 28x28 for as many labels, got {images.shape[:3]}")
    return Split(images, labels)
