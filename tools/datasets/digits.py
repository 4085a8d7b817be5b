"""The offline stand-in for MNIST: scikit-learn's 1,797 real handwritten digits, enlarged from 8x8 to 28x28.

Framed as MNIST's are, by the same code that prepares pictures on the server: what a model learns is what it will see.
Written as genuine IDX files that torchvision's MNIST class reads, under a class and folder name of their
own, so that they are never taken for MNIST. A fifth of each class is held out for testing; the training
digits come with shifted, turned and scaled copies, the test digits as they are. Made once: remove the
folder after changing this.
"""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from tools.datasets import Images, Split, mnist
from tools.datasets.files import reading, staged
from tools.steps.digit import framed
from tools.torchvision_import import load_torchvision

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
    """Training and test set, made the first time; `download` has nothing to do.

    Raises:
        DataError: the files are damaged or cannot be written.
    """
    if not all(path.is_file() for path in files(root)):
        write(root)
    # torchvision's MNIST looks for its files under the name of its class.
    loader = type(FOLDER, (load_torchvision().datasets.MNIST,), {})
    with reading(TITLE, root / FOLDER, "remove that folder, and it is made again"):
        return mnist.read(loader, root, download=False)


def write(root: Path, copies: int = COPIES) -> None:
    """Make all four files, with so many varied copies of each training digit."""
    train, test = make(copies)
    with staged(root / FOLDER) as folder:
        (folder / "raw").mkdir()
        arrays: tuple[npt.NDArray[Any], ...] = (train.images, train.labels, test.images, test.labels)
        for name, array in zip(mnist.IDX_FILES, arrays, strict=True):
            (folder / "raw" / name).write_bytes(idx(array))


def make(copies: int) -> tuple[Split, Split]:
    """Both splits: uint8 images [N, 28, 28] and int64 labels [N], the training digits before their copies."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    source = load_digits()
    images = np.stack([enlarge(image) for image in source.images])
    parts = train_test_split(images, source.target, test_size=0.2, stratify=source.target, random_state=SEED)
    train_images, test_images, train_labels, test_labels = parts
    random = np.random.default_rng(SEED)
    varied = [np.stack([vary(image, random) for image in train_images]) for _ in range(copies)]
    images = np.concatenate([train_images, *varied])
    return Split(images, np.tile(train_labels, copies + 1)), Split(test_images, test_labels)


def enlarge(image: npt.NDArray[np.float64]) -> Images:
    """An 8x8 digit of values 0 to 16 as 28x28 pixels: fit to 20x20, its centre of mass in the middle."""
    small = Image.fromarray((image * 255 / 16).round().astype(np.uint8))
    large = np.asarray(small.resize((20, 20), Image.Resampling.BICUBIC), np.float32)
    pixels: Images = framed(torch.from_numpy(np.pad(large, 4))).round().to(torch.uint8).numpy()
    return pixels


def vary(image: Images, random: np.random.Generator) -> Images:
    """A copy, turned by up to 12 degrees, scaled by up to a tenth and shifted by up to two pixels."""
    angle, scale = np.deg2rad(random.uniform(-12, 12)), random.uniform(0.9, 1.1)
    cosine, sine = np.cos(angle) * scale, np.sin(angle) * scale
    shift_x, shift_y = random.uniform(-2, 2, size=2)
    # Pillow maps each pixel of the result back to the source, about the centre (13.5, 13.5).
    centre = 13.5
    right = (cosine, -sine, centre - cosine * centre + sine * centre + shift_x)
    down = (sine, cosine, centre - sine * centre - cosine * centre + shift_y)
    turned = Image.fromarray(image).transform(
        (28, 28), Image.Transform.AFFINE, (*right, *down), Image.Resampling.BILINEAR
    )
    return np.asarray(turned)


def idx(array: npt.NDArray[Any]) -> bytes:
    """Unsigned bytes in the IDX format: a magic number, the dimensions big-endian, the values."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 0x08, array.ndim, *array.shape)
    return header + np.ascontiguousarray(array, np.uint8).tobytes()
