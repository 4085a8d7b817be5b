"""CIFAR-10, read by torchvision: 50,000 + 10,000 photographs of ten classes, 32x32 pixels, RGB."""

from pathlib import Path
from typing import Any

import numpy as np

from tools.datasets import DataError, Split
from tools.datasets.mnist import last_line
from tools.torchvision_import import torchvision_datasets

TITLE = "CIFAR-10"
STAND_IN = False
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCH_FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")


def files(root: Path) -> list[Path]:
    """The batch files that torchvision looks for."""
    return [root / "cifar-10-batches-py" / name for name in BATCH_FILES]


def splits(root: Path, download: bool) -> tuple[Split, Split]:
    """Training and test set.

    Raises:
        DataError: the files are missing and cannot be downloaded.
    """
    loader = torchvision_datasets().CIFAR10
    try:
        train, test = (loader(str(root), train=train, download=download) for train in (True, False))
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"CIFAR-10 is neither in {root / 'cifar-10-batches-py'} nor to be downloaded ({last_line(error)}); unpack "
            "cifar-10-python.tar.gz there, or take the stand-in: --data silhouettes"
        ) from error
    return split(train), split(test)


def split(dataset: Any) -> Split:
    """A torchvision CIFAR10 data set as arrays."""
    return Split(np.ascontiguousarray(dataset.data), np.asarray(dataset.targets, np.int64))
