"""The data that models are trained and tested on, one data set per file.

Real sets come from torchvision's own loaders. Each has an offline stand-in, made here and written in the same file
format, so that the same loader reads it; a stand-in is named as such wherever a number made with it appears.
"""

import hashlib
import importlib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from tools.repository import ROOT

DATA = ROOT / "data"
NAMES = ("mnist", "cifar10", "digits", "silhouettes")


class DataError(Exception):
    """A data set cannot be had; the message names it, where it was looked for and what else there is."""


@dataclass(frozen=True)
class ImageData:
    """A data set in memory.

    Attributes:
        name: what `--data` calls it.
        title: what people read; says so when it is a stand-in.
        classes: names of the classes, by label.
        train_images, test_images: uint8 [N, H, W, C].
        train_labels, test_labels: int64 [N].
        sha256: of the files, so that a figure can be traced to the data it was taken on.
    """

    name: str
    title: str
    stand_in: bool
    classes: tuple[str, ...]
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    sha256: str


@dataclass(frozen=True)
class Split:
    """Images and labels of a training or a test set, as `ImageData` has them."""

    images: np.ndarray
    labels: np.ndarray


def load(name: str, root: Path = DATA, download: bool = True) -> ImageData:
    """Read a data set; a stand-in is made the first time, a real one downloaded if allowed.

    Raises:
        DataError: there is no such set, or its files are missing or damaged.
    """
    module = module_of(name)
    train, test = module.splits(root, download)
    return ImageData(
        name, module.TITLE, module.STAND_IN, tuple(module.CLASSES),
        train.images, train.labels, test.images, test.labels, digest(module.files(root)),
    )


def load_first(names: Sequence[str], root: Path = DATA) -> ImageData:
    """The real set, named first, if its files are in `root`; else its stand-in, with a notice on stderr.

    Nothing is downloaded unasked: `load` does that for a set that somebody named.
    """
    real, *stand_ins = names
    if not stand_ins or all(path.is_file() for path in module_of(real).files(root)):
        return load(real, root)
    data = load(stand_ins[0], root)
    print(f"{module_of(real).TITLE} is not in {root}: using {data.title} (--data {real} downloads the real one)",
          file=sys.stderr)
    return data


def module_of(name: str) -> ModuleType:
    """The module of a data set.

    Raises:
        DataError: there is none of this name.
    """
    if name not in NAMES:
        raise DataError(f"no data set '{name}'; there are: {', '.join(NAMES)}")
    return importlib.import_module(f"{__name__}.{name}")


def digest(files: Iterable[Path]) -> str:
    """SHA-256 over the files in the order in which they are given."""
    total = hashlib.sha256()
    for file in files:
        total.update(file.read_bytes())
    return total.hexdigest()
