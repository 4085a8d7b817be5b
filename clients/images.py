"""From image files to a model's input: the one pre-processing that clients, training and load tests share.

How pixels become numbers is the model's own affair, so its config says it (parameters IMAGE_MEAN, IMAGE_STD and,
for a flat input, IMAGE_SHAPE) and the server passes it on.
"""

import math
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from clients.contract import Array, Contract
from clients.errors import InvalidInput

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
# The decoders that may run, whatever a file is called: Pillow knows some that start other programs.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
MODES = {1: "L", 3: "RGB"}
# A file of some kilobytes can claim any size; decoding it would take four bytes for each of its pixels.
MOST_PIXELS = 80_000_000
# What Pillow's decoders raise on damaged files; OSError covers unidentified and truncated ones.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


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
    """Decode an image file to uint8 [H, W, C] of the model's size, as a person sees it.

    Turned as its EXIF data say, transparent parts on white, 16 bits brought down to 8, the first picture of an
    animation; squeezed to the model's size whatever its own proportions.

    Raises:
        InvalidInput: the file is missing, no image, damaged or too large.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            check_pixels(image)
            converted = as_seen(image).convert(MODES[spec.channels])
    except DAMAGE as error:
        raise InvalidInput(f"{path} is not an image that can be read: {error or type(error).__name__}") from error
    if converted.size != (spec.width, spec.height):
        converted = converted.resize((spec.width, spec.height), Image.Resampling.BILINEAR)
    return np.asarray(converted, np.uint8).reshape(spec.height, spec.width, spec.channels)


def check_pixels(image: Image.Image) -> None:
    """Refuse what would fill the memory, before any pixel is decoded."""
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(f"{image.width}x{image.height} pixels are more than {MOST_PIXELS}; scale it down")


def as_seen(image: Image.Image) -> Image.Image:
    """The picture as a viewer shows it, in a mode that converts to grey or RGB without loss of contrast."""
    upright = eight_bits(ImageOps.exif_transpose(image))
    if not upright.has_transparency_data:
        return upright
    picture = upright.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)


def eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits, where Pillow's own conversion would turn all but the darkest pixels white."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range; save it with 8 bits per channel")
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))


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
