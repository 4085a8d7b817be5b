"""The offline stand-in for MNIST: scikit-learn's 1,797 real handwritten digits, brought from 8x8 to 28x28 pixels.

Written as genuine IDX files that torchvision's MNIST class reads, under a class and folder name of their own, so that
they are never taken for MNIST. A fifth of each class is held out for testing; the training digits come with shifted,
turned and scaled copies, the test digits as they are.
"""

import os
import shutil
import struct
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from tools.datasets import Split, mnist
from tools.torchvision_import import torchvision_datasets

TITLE = "scikit-learn's digits at 28x28 (stand-in for MNIST)"
STAND_IN = True
CLASSES = mnist.CLASSES
FOLDER = "DigitsStandIn"
SEED = 20
COPIES = 4


def files(root: Path) -> list[Path]:
    """The four IDX files."""
    return [root / FOLDER / "raw" / name for name in mnist.IDX_FILES]


def splits(root: Path, download: bool) -> tuple[Split, Split]:
    """Training and test set, made the first time; `download` has nothing to do."""
    if not all(path.is_file() for path in files(root)):
        write(root)
    # torchvision's MNIST looks for its files under the name of its class.
    loader = type(FOLDER, (torchvision_datasets().MNIST,), {})
    return mnist.read(loader, root, download=False)


def write(root: Path) -> None:
    """Make all four files beside their place, then rename their folder: half a set is never found."""
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root) as scratch:
        raw = Path(scratch) / FOLDER / "raw"
        raw.mkdir(parents=True)
        train, test = make()
        arrays = (train.images, train.labels, test.images, test.labels)
        for name, array in zip(mnist.IDX_FILES, arrays, strict=True):
            (raw / name).write_bytes(idx(array))
        shutil.rmtree(root / FOLDER, ignore_errors=True)
        os.rename(raw.parent, root / FOLDER)


def make() -> tuple[Split, Split]:
    """Both splits: uint8 images [N, 28, 28] and uint8 labels [N]."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    source = load_digits()
    images = np.stack([enlarge(image) for image in source.images])
    labels = source.target.astype(np.uint8)
    parts = train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=SEED)
    train_images, test_images, train_labels, test_labels = parts
    random = np.random.default_rng(SEED)
    copies = [np.stack([vary(image, random) for image in train_images]) for _ in range(COPIES)]
    images = np.concatenate([train_images, *copies])
    return Split(images, np.tile(train_labels, COPIES + 1)), Split(test_images, test_labels)


def enlarge(image: np.ndarray) -> np.ndarray:
    """An 8x8 digit of values 0 to 16 as 20x20 pixels in the middle of 28x28, as MNIST has them."""
    small = Image.fromarray((image * 255 / 16).round().astype(np.uint8))
    canvas = np.zeros((28, 28), np.uint8)
    canvas[4:24, 4:24] = np.asarray(small.resize((20, 20), Image.Resampling.BICUBIC))
    return canvas


def vary(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A copy, turned by up to 12 degrees, scaled by up to a tenth and shifted by up to two pixels."""
    angle, scale = np.deg2rad(random.uniform(-12, 12)), random.uniform(0.9, 1.1)
    cosine, sine = np.cos(angle) * scale, np.sin(angle) * scale
    shift_x, shift_y = random.uniform(-2, 2, size=2)
    # Pillow maps each pixel of the result back to the source, about the centre (13.5, 13.5).
    centre = 13.5
    matrix = (cosine, -sine, centre - cosine * centre + sine * centre + shift_x,
              sine, cosine, centre - sine * centre - cosine * centre + shift_y)
    turned = Image.fromarray(image).transform((28, 28), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return np.asarray(turned)


def idx(array: np.ndarray) -> bytes:
    """Unsigned bytes in the IDX format: a magic number, the dimensions big-endian, the values."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 0x08, array.ndim, *array.shape)
    return header + np.ascontiguousarray(array, np.uint8).tobytes()
