"""The offline stand-in for MNIST: scikit-learn's 1,797 real handwritten digits, enlarged from 8x8 to 28x28.

They are framed as MNIST's are, by the code that prepares pictures on the server, so a model is trained on what it will
get. They are written as IDX files that torchvision's MNIST class reads, under their own class and folder name, so that
they are never mistaken for MNIST. A fifth of each class is held out for testing; training digits are augmented with
shifted, rotated and scaled copies. Written once: remove the folder after changing this file.
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
from tools.steps.digit import frame_digit
from tools.torchvision_import import load_torchvision

TITLE = "scikit-learn's digits at 28x28 (stand-in for MNIST)"
STAND_IN = True
CLASSES = mnist.CLASSES
FOLDER = "DigitsStandIn"
SEED = 20
COPIES = 4


def files(root: Path) -> list[Path]:
    """List the four IDX files."""
    return [root / FOLDER / "raw" / name for name in mnist.IDX_FILES]


def splits(root: Path, download: bool) -> tuple[Split, Split]:
    """Read both sets, generated the first time (`download` has no effect); DataError if damaged or not writable."""
    if not all(path.is_file() for path in files(root)):
        write(root)
    # torchvision's MNIST looks for its files under the name of its class.
    loader = type(FOLDER, (load_torchvision().datasets.MNIST,), {})
    with reading(TITLE, root / FOLDER, "remove that folder, and it is generated again"):
        return mnist.read(loader, root, download=False)


def write(root: Path, copies: int = COPIES) -> None:
    """Write all four files, with this many augmented copies of each training digit."""
    with staged(root / FOLDER) as folder:
        train, test = make_splits(copies)
        (folder / "raw").mkdir()
        arrays: tuple[npt.NDArray[Any], ...] = (train.images, train.labels, test.images, test.labels)
        for name, array in zip(mnist.IDX_FILES, arrays, strict=True):
            (folder / "raw" / name).write_bytes(_idx(array))


def make_splits(copies: int) -> tuple[Split, Split]:
    """Build both splits: uint8 images [N, 28, 28] and int64 labels [N]; augmented copies follow the originals."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    source = load_digits()
    images = np.stack([_enlarge(image) for image in source.images])
    parts = train_test_split(images, source.target, test_size=0.2, stratify=source.target, random_state=SEED)
    train_images, test_images, train_labels, test_labels = parts
    random = np.random.default_rng(SEED)
    varied = [np.stack([_vary(image, random) for image in train_images]) for _ in range(copies)]
    images = np.concatenate([train_images, *varied])
    return Split(images, np.tile(train_labels, copies + 1)), Split(test_images, test_labels)


def _enlarge(image: npt.NDArray[np.float64]) -> Images:
    # 8x8 values of 0 to 16 to 28x28 pixels.
    small = Image.fromarray((image * 255 / 16).round().astype(np.uint8))
    large = np.asarray(small.resize((20, 20), Image.Resampling.BICUBIC), np.float32)
    pixels: Images = frame_digit(torch.from_numpy(np.pad(large, 4))).round().to(torch.uint8).numpy()
    return pixels


def _vary(image: Images, random: np.random.Generator) -> Images:
    # Rotated by up to 12 degrees, scaled by up to a tenth and shifted by up to two pixels.
    angle, scale = np.deg2rad(random.uniform(-12, 12)), random.uniform(0.9, 1.1)
    cosine, sine = np.cos(angle) * scale, np.sin(angle) * scale
    shift_x, shift_y = random.uniform(-2, 2, size=2)
    # Pillow maps each pixel of the result to the source; the centre is (13.5, 13.5).
    centre = 13.5
    right = (cosine, -sine, centre - cosine * centre + sine * centre + shift_x)
    down = (sine, cosine, centre - sine * centre - cosine * centre + shift_y)
    method, resample = Image.Transform.AFFINE, Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(image).transform((28, 28), method, (*right, *down), resample))


def _idx(array: npt.NDArray[Any]) -> bytes:
    # Unsigned bytes in the IDX format: a magic number, big-endian dimensions, the values.
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 0x08, array.ndim, *array.shape)
    return header + np.ascontiguousarray(array, np.uint8).tobytes()
