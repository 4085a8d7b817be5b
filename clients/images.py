"""From image files to a model's input: the one pre-processing that clients, training and load tests share.

How pixels become numbers is the model's own affair, so its config says it (parameters IMAGE_MEAN, IMAGE_STD and,
for a flat input, IMAGE_SHAPE) and the server passes it on.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from clients.contract import Array, Contract
from clients.errors import InvalidInput

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True)
class ImageSpec:
    """How a model wants its image: size in pixels, mean and standard deviation per channel of pixels in 0 to 1."""

    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flat: bool


def image_spec(contract: Contract) -> ImageSpec:
    """Read how a model wants its image.

    Raises:
        InvalidInput: the model does not take images, or its config does not say how.
    """
    parameters, dims = contract.parameters, contract.inputs[0].dims
    if "IMAGE_MEAN" not in parameters or "IMAGE_STD" not in parameters:
        raise InvalidInput(
            f"{contract.model} does not say that it takes images: its config.pbtxt has no parameters "
            "IMAGE_MEAN and IMAGE_STD"
        )
    stated = parameters.get("IMAGE_SHAPE")
    size = tuple(int(part) for part in stated.split("x")) if stated else dims
    if len(size) != 3 or size[0] not in MODES or min(size) < 1:
        raise InvalidInput(
            f"{contract.model}: expected an image shape channels x height x width with 1 or 3 channels, "
            f"got {'x'.join(map(str, size))}; set parameter IMAGE_SHAPE in its config.pbtxt"
        )
    mean, std = (numbers(parameters[key], size[0]) for key in ("IMAGE_MEAN", "IMAGE_STD"))
    return ImageSpec(*size, mean=mean, std=std, flat=len(dims) == 1)


def numbers(text: str, channels: int) -> tuple[float, ...]:
    """One number per channel from a parameter's text."""
    values = tuple(float(part) for part in text.split(","))
    if len(values) != channels:
        raise InvalidInput(f"expected {channels} numbers for {channels} channels, got '{text}'")
    return values


def normalise(pixels: Array, spec: ImageSpec) -> Array:
    """Pixels as a model's input.

    Args:
        pixels: uint8 [N, H, W, C].
        spec: how the model wants them.

    Returns:
        float32 [N, C, H, W], or [N, C*H*W] for a model with a flat input.
    """
    # One multiplication and addition per pixel: (pixel / 255 - mean) / std.
    scale = np.float32(1 / 255) / np.asarray(spec.std, np.float32)
    offset = -np.asarray(spec.mean, np.float32) / np.asarray(spec.std, np.float32)
    planes = np.ascontiguousarray((pixels * scale + offset).transpose(0, 3, 1, 2))
    return planes.reshape(len(planes), -1) if spec.flat else planes


def load_image(path: Path, spec: ImageSpec) -> Array:
    """Decode an image file to uint8 [H, W, C] of the model's size.

    Raises:
        InvalidInput: the file is missing or no image.
    """
    try:
        with Image.open(path) as image:
            converted = image.convert(MODES[spec.channels])
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError) as error:
        raise InvalidInput(f"{path} is not an image that can be read: {error}") from error
    if converted.size != (spec.width, spec.height):
        converted = converted.resize((spec.width, spec.height), Image.Resampling.BILINEAR)
    return np.asarray(converted, np.uint8).reshape(spec.height, spec.width, spec.channels)


def image_files(paths: Iterable[Path]) -> list[Path]:
    """Files as they are named, and all images below folders, sorted.

    Raises:
        InvalidInput: a path does not exist, or a folder holds no image.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise InvalidInput(f"{path} does not exist")
        found = sorted(f for f in path.rglob("*") if f.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        if not found:
            raise InvalidInput(f"folder {path} holds no image ({', '.join(sorted(SUFFIXES))})")
        files += found
    return files
