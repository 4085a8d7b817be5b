"""From image files to a model's input: the one pre-processing that clients, training and load tests share.

How pixels become numbers is the model's own affair, so its config says it (parameters IMAGE_MEAN, IMAGE_STD and,
for a flat input, IMAGE_SHAPE) and the server passes it on.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from clients.contract import Array, Contract, names, shape
from clients.decoding import DAMAGE, FORMATS, MODES, check_pixels, decode, reason
from clients.errors import InvalidInput

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
# What makes a row of a file, and a tensor of stacked rows.
Readers = tuple[Callable[[Path], Array], Callable[[Array], Array]]


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
    size = image_shape(contract.model, parameters.get("IMAGE_SHAPE") or "x".join(map(str, dims)), dims)
    mean, std = (numbers(contract.model, key, parameters[key], size[0]) for key in ("IMAGE_MEAN", "IMAGE_STD"))
    if 0 in std:
        raise InvalidInput(f"{contract.model}: IMAGE_STD divides pixels, so it cannot be 0; correct its config.pbtxt")
    return ImageSpec(*size, mean=mean, std=std, flat=len(dims) == 1)


def image_shape(model: str, text: str, dims: tuple[int, ...]) -> tuple[int, int, int]:
    """Channels, height and width from a text like 3x32x32 that fits the input's dims."""
    size = tuple(int(part) for part in text.split("x") if part.isdecimal())
    fits = size == dims or dims == (math.prod(size),)
    if len(size) != 3 or size[0] not in MODES or not all(size) or not fits:
        raise InvalidInput(
            f"{model}: expected an image shape channels x height x width with 1 or 3 channels that fits the input's "
            f"dims {list(dims)}, got {text}; set parameter IMAGE_SHAPE in its config.pbtxt"
        )
    return size[0], size[1], size[2]


def numbers(model: str, key: str, text: str, channels: int) -> tuple[float, ...]:
    """One finite number per channel from a parameter's text."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != channels or not all(map(math.isfinite, values)):
        raise InvalidInput(
            f"{model}: expected {channels} numbers with commas between them as {key}, got '{text}'; "
            "correct its config.pbtxt"
        )
    return values


def scale_and_offset(spec: ImageSpec) -> tuple[Array, Array]:
    """Per channel, float32: one multiplication and addition per pixel make (pixel / 255 - mean) / std."""
    std = np.asarray(spec.std, np.float32)
    return np.float32(1 / 255) / std, -np.asarray(spec.mean, np.float32) / std


def normalise(pixels: Array, spec: ImageSpec) -> Array:
    """Pixels as a model's input.

    Args:
        pixels: uint8 [N, H, W, C].
        spec: how the model wants them.

    Returns:
        float32 [N, C, H, W], or [N, C*H*W] for a model with a flat input.
    """
    scale, offset = scale_and_offset(spec)
    planes = np.ascontiguousarray((pixels * scale + offset).transpose(0, 3, 1, 2))
    return planes.reshape(len(planes), -1) if spec.flat else planes


def open_image(path: Path, channels: int, largest: int | None = None) -> Image.Image:
    """Decode an image file at its own size, as `clients.decoding.decode` does.

    Raises:
        InvalidInput: the file is missing, no image, damaged or too large.
    """
    try:
        return decode(path, channels, largest)
    except DAMAGE as error:
        raise InvalidInput(f"{path} is not an image that can be read: {reason(error)}") from error


def load_image(path: Path, spec: ImageSpec) -> Array:
    """Decode an image file to uint8 [H, W, C] of the model's size, as a person sees it.

    Turned as its EXIF data say, transparent parts on white, 16 bits brought down to 8, the first picture of an
    animation; squeezed to the model's size whatever its own proportions.

    Raises:
        InvalidInput: the file is missing, no image, damaged or too large.
    """
    converted = open_image(path, spec.channels)
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
        found = images_below(path) if path.is_dir() else [path]
        if not found:
            raise InvalidInput(f"folder {path} holds no image ({', '.join(sorted(SUFFIXES))})")
        files += found
    return files


def images_below(folder: Path) -> list[Path]:
    """All files below a folder that are called like images, sorted."""
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())


def image_readers(contract: Contract) -> Readers:
    """How a file becomes a row, and stacked rows a tensor: a file's bytes, its pixels, or normalised planes."""
    if len(contract.inputs) != 1:
        raise InvalidInput(
            f"{contract.model} takes {len(contract.inputs)} inputs ({names(contract.inputs)}), an image file is one; "
            "give a .npz with an array for each"
        )
    (wanted,) = contract.inputs
    if wanted.datatype == "BYTES":
        dims = tuple(1 if dim == -1 else dim for dim in wanted.dims)
        return lambda file: file_bytes(file).reshape(dims), np.asarray
    if wanted.datatype == "UINT8" and len(wanted.dims) == 3:
        return pixel_reader(contract), np.asarray
    spec = image_spec(contract)
    return lambda file: load_image(file, spec), lambda pixels: normalise(pixels, spec)


def pixel_reader(contract: Contract) -> Callable[[Path], Array]:
    """How a file becomes uint8 [H, W, C]: squeezed to the model's size, or of its own size where the model's varies."""
    height, width, channels = contract.inputs[0].dims
    channels = 3 if channels == -1 else channels
    if channels not in MODES:
        raise InvalidInput(
            f"{contract.model}: expected an image input [height, width, channels] with 1 or 3 channels, "
            f"got {shape(contract.inputs[0].dims)}; give a .npy of what it takes"
        )
    if -1 in (height, width):
        return lambda file: own_pixels(file, channels)
    zeros = (0.0,) * channels
    spec = ImageSpec(channels, height, width, zeros, zeros, flat=False)
    return lambda file: load_image(file, spec)


def own_pixels(path: Path, channels: int) -> Array:
    """Decode an image file as `load_image` does, at its own size: uint8 [H, W, C].

    Raises:
        InvalidInput: as `load_image`.
    """
    picture = open_image(path, channels)
    return np.asarray(picture, np.uint8).reshape(picture.height, picture.width, channels)


def file_bytes(path: Path) -> Array:
    """An image file as it is: one object, bytes. Its head is looked at here: a server may refuse a whole batch for it.

    Raises:
        InvalidInput: as `load_image`, as far as the file's head shows it.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            check_pixels(image)
        return np.array([path.read_bytes()], dtype=object)
    except DAMAGE as error:
        raise InvalidInput(f"{path} is not an image that can be read: {reason(error)}") from error
