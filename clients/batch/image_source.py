"""The image files of a folder as rows: whatever the model's contract says that an image is.

A model whose only input is BYTES gets the files as they are, one with a UINT8 image input [height, width, channels]
gets pixels, and an image classifier gets what `clients.images` makes of the parameters in its config.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clients.batch.sources import Loaded
from clients.contract import Array, Contract
from clients.errors import InvalidInput
from clients.images import image_files, image_readers


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
