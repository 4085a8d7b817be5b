"""From image files to a model's input: the one pre-processing that clients, training and load tests share.

How an image becomes a tensor follows from the model's contract. A model whose only input is BYTES gets the files
themselves, and one with a UINT8 input [height, width, channels] gets pixels. Any other image model gets normalised
planes, by the parameters of its config: IMAGE_MEAN, IMAGE_STD and, for a flat input, IMAGE_SHAPE.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from clients.contract import Array, Contract, names, shape
from clients.decoding import DAMAGE, FORMATS, MODES, check_pixels, decode, reason
from clients.errors import InvalidInput

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


@dataclass(frozen=True)
class ImageSpec:
    """A model's image input: size in pixels, mean and standard deviation per channel of pixels scaled to 0…1."""

    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flat: bool


class Readers(NamedTuple):
    """How image files become a tensor: `read` turns a file into a row, `finish` stacked rows into a batch."""

    read: Callable[[Path], Array]
    finish: Callable[[Array], Array]

    def load(self, files: Sequence[Path], batched: bool) -> tuple[list[Array], list[str]]:
        """Read files as model inputs: one batch if all have the same shape, else one input each.

        Returns:
            The inputs, without a batch dimension for a model that is not batched; and why each file is in none of
            them, an empty text for a good one.
        """
        images: list[Array] = []
        errors = [""] * len(files)
        for place, file in enumerate(files):
            try:
                images.append(self.read(file))
            except InvalidInput as error:
                errors[place] = str(error)
        together = batched and len({image.shape for image in images}) == 1
        stacks = [np.stack(images)] if together else [image[None] for image in images]
        return [self.finish(stack) if batched else self.finish(stack)[0] for stack in stacks], errors


def image_readers(contract: Contract) -> Readers:
    """Choose how files become the input of a model.

    Raises:
        InvalidInput: the model has several inputs, or does not take images.
    """
    if len(contract.inputs) != 1:
        raise InvalidInput(
            f"{contract.model} takes {len(contract.inputs)} inputs ({names(contract.inputs)}), and an image file is "
            "one; give a .npz with an array for each"
        )
    (wanted,) = contract.inputs
    if wanted.datatype == "BYTES":
        dims = tuple(1 if dim == -1 else dim for dim in wanted.dims)
        return Readers(lambda file: _file_bytes(file).reshape(dims), np.asarray)
    if wanted.datatype == "UINT8" and len(wanted.dims) == 3:
        height, width, channels = wanted.dims
        channels = 3 if channels == -1 else channels
        if channels not in MODES:
            raise InvalidInput(
                f"{contract.model}: expected an image input [height, width, channels] with 1 or 3 channels, "
                f"got {shape(wanted.dims)}; give a .npy of what it takes"
            )
        size = None if -1 in (height, width) else (width, height)
        return Readers(lambda file: _load_pixels(file, channels, size), np.asarray)
    spec = image_spec(contract)
    return Readers(lambda file: load_image(file, spec), lambda pixels: normalise(pixels, spec))


def image_spec(contract: Contract) -> ImageSpec:
    """Read the image input of a model from the parameters of its config.

    Raises:
        InvalidInput: the model does not take images, or its config does not describe them.
    """
    parameters, dims = contract.parameters, contract.inputs[0].dims
    if "IMAGE_MEAN" not in parameters or "IMAGE_STD" not in parameters:
        raise InvalidInput(
            f"{contract.model} does not declare an image input: its config.pbtxt has no parameters IMAGE_MEAN and "
            "IMAGE_STD"
        )
    # A text like 3x32x32: channels, height and width.
    text = parameters.get("IMAGE_SHAPE") or "x".join(map(str, dims))
    size = tuple(int(part) for part in text.split("x") if part.isdecimal())
    fits = size == dims or dims == (math.prod(size),)
    if len(size) != 3 or size[0] not in MODES or not all(size) or not fits:
        raise InvalidInput(
            f"{contract.model}: expected an image shape channels x height x width with 1 or 3 channels that fits the "
            f"input's dims {list(dims)}, got {text}; set parameter IMAGE_SHAPE in its config.pbtxt"
        )
    mean, std = (_per_channel(contract.model, key, parameters[key], size[0]) for key in ("IMAGE_MEAN", "IMAGE_STD"))
    if 0 in std:
        raise InvalidInput(f"{contract.model}: IMAGE_STD is a divisor and cannot be 0; correct its config.pbtxt")
    return ImageSpec(*size, mean=mean, std=std, flat=len(dims) == 1)


def _per_channel(model: str, key: str, text: str, channels: int) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != channels or not all(map(math.isfinite, values)):
        raise InvalidInput(
            f"{model}: expected {channels} comma-separated numbers as {key}, got '{text}'; correct its config.pbtxt"
        )
    return values


def scale_and_offset(spec: ImageSpec) -> tuple[Array, Array]:
    """Per channel, float32: pixel * scale + offset is (pixel / 255 - mean) / std."""
    std = np.asarray(spec.std, np.float32)
    return np.float32(1 / 255) / std, -np.asarray(spec.mean, np.float32) / std


def normalise(pixels: Array, spec: ImageSpec) -> Array:
    """Turn pixels, uint8 [N, H, W, C], into a model's input: float32 [N, C, H, W], or [N, C*H*W] for a flat one."""
    scale, offset = scale_and_offset(spec)
    planes = np.ascontiguousarray((pixels * scale + offset).transpose(0, 3, 1, 2))
    return planes.reshape(len(planes), -1) if spec.flat else planes


def load_image(path: Path, spec: ImageSpec) -> Array:
    """Decode an image file to uint8 [H, W, C] of the model's size, as a person sees it.

    The EXIF orientation is applied, transparent parts are white, 16 bits are scaled to 8, and an animation is its
    first frame; the image is squeezed to the model's size whatever its own aspect ratio.

    Raises:
        InvalidInput: the file is missing, no image, damaged or too large.
    """
    return _load_pixels(path, spec.channels, (spec.width, spec.height))


def _load_pixels(path: Path, channels: int, size: tuple[int, int] | None) -> Array:
    """Decode an image file to uint8 [H, W, C] of a size (width, height), or of its own."""
    try:
        image = decode(path, channels)
    except DAMAGE as error:
        raise InvalidInput(f"{path} is not an image that can be read: {reason(error)}") from error
    if size and image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(image, np.uint8).reshape(image.height, image.width, channels)


def image_files(paths: Iterable[Path]) -> list[Path]:
    """List files as they are named, and for a folder all images below it, sorted.

    Raises:
        InvalidInput: a path does not exist, or a folder contains no image.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise InvalidInput(f"{path} does not exist")
        below = (file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        images = sorted(below) if path.is_dir() else [path]
        if not images:
            raise InvalidInput(f"folder {path} holds no image ({', '.join(sorted(SUFFIXES))})")
        files += images
    return files


def _file_bytes(path: Path) -> Array:
    """A file's content as one object; its header is checked, because a server may refuse a whole batch for it."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            check_pixels(image)
        return np.array([path.read_bytes()], dtype=object)
    except DAMAGE as error:
        raise InvalidInput(f"{path} is not an image that can be read: {reason(error)}") from error
