"""MNIST, read by torchvision: 60,000 + 10,000 handwritten digits, 28x28 pixels, one channel."""

from pathlib import Path
from typing import Any

import numpy as np

from tools.datasets import DataError, Split
from tools.torchvision_import import torchvision_datasets

TITLE = "MNIST"
STAND_IN = False
CLASSES = tuple("0123456789")
IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def files(root: Path) -> list[Path]:
    """The four uncompressed files that torchvision looks for."""
    return [root / "MNIST" / "raw" / name for name in IDX_FILES]


def splits(root: Path, download: bool) -> tuple[Split, Split]:
    """Training and test set.

    Raises:
        DataError: the files are missing and cannot be downloaded.
    """
    return read(torchvision_datasets().MNIST, root, download)


def read(loader: Any, root: Path, download: bool) -> tuple[Split, Split]:
    """Both splits by torchvision's MNIST class or a subclass of it."""
    try:
        train, test = (loader(str(root), train=train, download=download) for train in (True, False))
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"MNIST is neither in {root / 'MNIST' / 'raw'} nor to be downloaded ({last_line(error)}); put its four "
            "files there, or take the stand-in: --data digits"
        ) from error
    return split(train), split(test)


def split(dataset: Any) -> Split:
    """A torchvision MNIST data set as arrays."""
    return Split(dataset.data.numpy()[..., np.newaxis], dataset.targets.numpy().astype(np.int64))


def last_line(error: Exception) -> str:
    """The end of an error's text, where the reason usually stands."""
    return str(error).strip().splitlines()[-1]
