"""The image files of a folder as rows: whatever the model's contract says that an image is.

A model whose only input is BYTES gets the files as they are, one with a UINT8 image input [height, width, channels]
gets pixels, and an image classifier gets what `clients.images` makes of the parameters in its config.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clients.contract import Array, Contract, names, shape
from clients.decoding import DAMAGE, FORMATS, MODES, check_pixels, reason
from clients.errors import InvalidInput
from clients.images import ImageSpec, image_files, image_spec, load_image, normalise, open_image
from clients.sources import Loaded

# What makes a row of a file, and a tensor of stacked rows.
Readers = tuple[Callable[[Path], Array], Callable[[Array], Array]]


@dataclass(frozen=True)
class ImageSource:
    """The image files of a folder, sorted; `read` makes one row of a file and `finish` a tensor of stacked rows."""

    folder: Path
    files: tuple[Path, ...]
    contract: Contract
    read: Callable[[Path], Array]
    finish: Callable[[Array], Array]
    column: str = "file"

    @property
    def rows(self) -> int:
        """How many files."""
        return len(self.files)

    @property
    def identity(self) -> Mapping[str, Any]:
        """Every file's name within the folder, its size and the time of its last change."""
        states = ((file, file.stat()) for file in self.files)
        return {"files": [[self.name(file), state.st_size, state.st_mtime_ns] for file, state in states]}

    def name(self, file: Path) -> str:
        """A file's name within the folder."""
        return file.relative_to(self.folder).as_posix()

    def labels(self, rows: range) -> Array:
        """File names within the folder."""
        return np.array([self.name(self.files[row]) for row in rows], dtype=np.str_)

    def load(self, rows: range) -> Loaded:
        """Decode these files; one request if all have the same shape, else one request each."""
        images: list[Array] = []
        errors: dict[int, str] = {}
        for row in rows:
            try:
                images.append(self.read(self.files[row]))
            except InvalidInput as error:
                errors[row] = str(error)
        together = self.contract.batched and len({image.shape for image in images}) == 1
        stacks = [np.stack(images)] if together else [image[None] for image in images]
        return Loaded([self.request(stack) for stack in stacks], errors)

    def request(self, stack: Array) -> dict[str, Array]:
        """The model's one input; a model without batches gets its one row bare."""
        tensor = self.finish(stack)
        return {self.contract.inputs[0].name: tensor if self.contract.batched else tensor[0]}


def image_source(folder: Path, contract: Contract) -> ImageSource:
    """The images of a folder as the model wants them.

    Raises:
        InvalidInput: the folder holds no image, or the model takes none.
    """
    read, finish = image_readers(contract)
    return ImageSource(folder, tuple(image_files([folder])), contract, read, finish)


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
