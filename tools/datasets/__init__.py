"""The data that models are trained and tested on, one data set per file.

Real sets come from torchvision's loaders. Each has an offline stand-in, generated here in the same file format, so
that the same loader reads it; every figure measured on a stand-in says so.
"""

import hashlib
import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from clients.command import say
from clients.errors import ToolError
from tools.repository import ROOT

DATA = ROOT / "data"
NAMES = ("mnist", "cifar10", "digits", "silhouettes")
Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


class DataError(ToolError):
    """A data set is not available; the message names it, where it was looked for and the alternative."""


@dataclass(frozen=True)
class ImageData:
    """A data set in memory."""

    name: str  # What `--data` calls it.
    title: str  # Its name for people, which says whether it is a stand-in.
    stand_in: bool
    classes: tuple[str, ...]  # Names of the classes, by label.
    train_images: Images  # uint8 [N, H, W, C]
    train_labels: Labels  # int64 [N]
    test_images: Images
    test_labels: Labels
    sha256: str  # Of the files, so that a figure can be traced to the data it was measured on.

    @property
    def reference(self) -> dict[str, Any]:
        """What a manifest says about it."""
        return {name: getattr(self, name) for name in ("name", "title", "stand_in", "sha256")}


@dataclass(frozen=True)
class Split:
    """Images and labels of a training or a test set, with the shapes and dtypes of `ImageData`."""

    images: Images
    labels: Labels


def load(name: str, root: Path = DATA, download: bool = True) -> ImageData:
    """Read a data set; generate a stand-in the first time, download a real set if allowed.

    Raises:
        DataError: the name is unknown, or its files are missing or damaged.
    """
    module = module_of(name)
    train, test = module.splits(root, download)
    digest = hashlib.sha256()
    for file in module.files(root):
        digest.update(file.read_bytes())
    return ImageData(
        name=name,
        title=module.TITLE,
        stand_in=module.STAND_IN,
        classes=tuple(module.CLASSES),
        train_images=train.images,
        train_labels=train.labels,
        test_images=test.images,
        test_labels=test.labels,
        sha256=digest.hexdigest(),
    )


def load_first(names: Sequence[str], root: Path = DATA) -> ImageData:
    """Load the real set (the first name) if its files are there, else its stand-in, with a notice on stderr.

    A set with a stand-in is never downloaded unasked: `load` does that for a set that the user has named.

    Raises:
        DataError: the real set's files are damaged, or it has no stand-in and cannot be downloaded.
    """
    real, *stand_ins = names
    module = module_of(real)
    has_files = all(path.is_file() for path in module.files(root))
    if has_files or not stand_ins:
        return load(real, root, download=not has_files)
    data = load(stand_ins[0], root)
    say(f"notice: {module.TITLE} is not in {root}: using {data.title} (--data {real} downloads the real one)")
    return data


def first(data: ImageData, train: int, test: int) -> ImageData:
    """Keep only the first images of a data set; its SHA-256 remains that of the files."""
    return replace(
        data,
        train_images=data.train_images[:train],
        train_labels=data.train_labels[:train],
        test_images=data.test_images[:test],
        test_labels=data.test_labels[:test],
    )


def module_of(name: str) -> ModuleType:
    """Import the module of a data set; DataError if the name is unknown."""
    if name not in NAMES:
        raise DataError(f"no data set '{name}'; there are: {', '.join(NAMES)}")
    return importlib.import_module(f"{__name__}.{name}")
