"""The data that models are trained and tested on, one data set per file.

Real sets come from torchvision's own loaders. Each has an offline stand-in, made here and written in the
same file format, so that the same loader reads it; a stand-in is named as such wherever a number made with
it appears.
"""

import hashlib
import importlib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt

from clients.errors import ToolError
from tools.datasets.download import answers
from tools.repository import ROOT

DATA = ROOT / "data"
NAMES = ("mnist", "cifar10", "digits", "silhouettes")
Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


class DataError(ToolError):
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
    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    sha256: str


@dataclass(frozen=True)
class Split:
    """Images and labels of a training or a test set, as `ImageData` has them."""

    images: Images
    labels: Labels


def load(name: str, root: Path = DATA, download: bool = True) -> ImageData:
    """Read a data set; a stand-in is made the first time, a real one downloaded if allowed.

    Raises:
        DataError: there is no such set, or its files are missing or damaged.
    """
    module = module_of(name)
    train, test = module.splits(root, download)
    return ImageData(
        name=name,
        title=module.TITLE,
        stand_in=module.STAND_IN,
        classes=tuple(module.CLASSES),
        train_images=train.images,
        train_labels=train.labels,
        test_images=test.images,
        test_labels=test.labels,
        sha256=digest(module.files(root)),
    )


def load_first(names: Sequence[str], root: Path = DATA, download: bool = False) -> ImageData:
    """The real set, named first, if it can be had; else its stand-in, named second, and a notice on stderr.

    Args:
        names: a real set and its stand-in.
        root: folder of all data sets.
        download: whether to try, once and for a few seconds, to reach the real set's server. Off by default,
            so that nothing is downloaded unasked: `load` does that for a set that somebody named.

    Raises:
        DataError: the real set's files are there but damaged, or it has no stand-in and cannot be had.
    """
    real, *stand_ins = names
    module = module_of(real)
    there = all(path.is_file() for path in module.files(root))
    if there or not stand_ins:
        return load(real, root, download=not there)
    if download and answers(module.source()):
        try:
            return load(real, root)
        except DataError as error:
            print(f"warning: {error}", file=sys.stderr)
    data = load(stand_ins[0], root)
    remedy = f"--data {real} downloads the real one"
    print(f"notice: {module.TITLE} is not in {root}: using {data.title} ({remedy})", file=sys.stderr)
    return data


def first(data: ImageData, train: int, test: int) -> ImageData:
    """The first images of a data set; the SHA-256 remains that of the files."""
    return replace(
        data,
        train_images=data.train_images[:train],
        train_labels=data.train_labels[:train],
        test_images=data.test_images[:test],
        test_labels=data.test_labels[:test],
    )


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
