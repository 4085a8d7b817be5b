"""The rows of a large data set: the image files of a folder, or the arrays of a .npy or .npz file.

A source knows how many rows there are and builds the requests of any range of them on demand, so that a data set of
any size passes through a fixed amount of memory.
"""

import hashlib
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.lib import format as npy

from clients.contract import Array, Contract
from clients.errors import InvalidInput
from clients.images import Readers, image_files, image_readers
from clients.output import printable

# The requests of the good rows in order, each the inputs by name; and why each row is in none of them, an empty text
# for a good one.
Loaded = tuple[list[dict[str, Array]], list[str]]


@dataclass(frozen=True)
class _ImageSource:
    folder: Path
    files: tuple[Path, ...]
    contract: Contract
    readers: Readers
    column: str = "file"

    @property
    def rows(self) -> int:
        return len(self.files)

    @property
    def identity(self) -> Mapping[str, Any]:
        """Each file's name within the folder, its size and the time of its last change."""
        states = ((file, file.stat()) for file in self.files)
        return {"files": [[self._name(file), state.st_size, state.st_mtime_ns] for file, state in states]}

    def labels(self, rows: range) -> Array:
        return np.array([self._name(self.files[row]) for row in rows], dtype=np.str_)

    def load(self, rows: range) -> Loaded:
        tensors, errors = self.readers.load([self.files[row] for row in rows], self.contract.batched)
        return [{self.contract.inputs[0].name: tensor} for tensor in tensors], [printable(error) for error in errors]

    def _name(self, file: Path) -> str:
        return printable(file.relative_to(self.folder).as_posix())


@dataclass(frozen=True)
class _ArraySource:
    path: Path
    arrays: Mapping[str, Array]
    contract: Contract
    column: str = "row"

    @property
    def rows(self) -> int:
        return len(next(iter(self.arrays.values())))

    @property
    def identity(self) -> Mapping[str, Any]:
        """The file's SHA-256; its name does not matter."""
        with self.path.open("rb") as file:
            return {"sha256": hashlib.file_digest(file, "sha256").hexdigest()}

    def labels(self, rows: range) -> Array:
        return np.arange(rows.start, rows.stop, dtype=np.int64)

    def load(self, rows: range) -> Loaded:
        return [{name: self._copy(array, rows) for name, array in self.arrays.items()}], [""] * len(rows)

    def _copy(self, array: Array, rows: range) -> Array:
        """Copy rows into memory; a model without batches gets its one row without a batch dimension."""
        part = array[rows.start : rows.stop] if self.contract.batched else array[rows.start]
        return np.array(part, dtype=object if array.dtype.kind in "SU" else None, order="C")


class Rows(Protocol):
    """Rows that a model is run on."""

    @property
    def column(self) -> str:
        """The name of the output's first column, which says which row it is."""

    def labels(self, rows: range) -> Array:
        """What the first column has for some rows."""

    def load(self, rows: range) -> Loaded:
        """Read some rows; that is slow, and safe to call from a thread."""


Source = _ImageSource | _ArraySource


def open_source(path: Path, contract: Contract, spool: Path) -> Source:
    """Open a folder of images, a .npy or a .npz as rows for a model.

    The arrays of a .npz are unpacked into the folder `spool`, on a disk with room for them.

    Raises:
        InvalidInput: there is nothing to read, or it does not fit the model.
    """
    if path.is_dir():
        return image_source(path, contract)
    if path.is_file() and path.suffix in (".npy", ".npz"):
        return array_source(path, contract, spool)
    raise InvalidInput(
        f"{path}: expected a folder of images, a .npy or a .npz file{'' if path.exists() else '; nothing is there'}"
    )


def image_source(folder: Path, contract: Contract) -> _ImageSource:
    """Open the images of a folder as the model takes them."""
    readers = image_readers(contract)
    return _ImageSource(folder, tuple(image_files([folder])), contract, readers)


def image_rows(folder: Path, files: Sequence[str], contract: Contract) -> Rows:
    """Some images of a folder, by their names there."""
    return _ImageSource(folder, tuple(folder / file for file in files), contract, image_readers(contract))


def array_rows(array: Array, contract: Contract) -> Rows:
    """An array of a model's only input."""
    return _ArraySource(Path(), contract.named(array), contract)


def array_source(path: Path, contract: Contract, spool: Path) -> _ArraySource:
    """Map a .npy, or a .npz with an array for each input, and check its first row against the model's contract."""
    try:
        if path.suffix == ".npy":
            with path.open("rb") as file:
                arrays = contract.named(_mapped(file))
        else:
            with zipfile.ZipFile(path) as archive:
                arrays = {name.removesuffix(".npy"): _unpacked(archive, name, spool) for name in archive.namelist()}
    except (ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise InvalidInput(f"{path} cannot be mapped as numpy arrays: {error}; write it with numpy.save") from error
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise InvalidInput(
            f"{path}: expected arrays with the same number of rows (first axis), got {lengths or 'none'}"
        )
    source = _ArraySource(path, arrays, contract)
    try:
        contract.check(source.load(range(1))[0][0])
    except InvalidInput as error:
        raise InvalidInput(f"{path}, row 0: {error}") from error
    return source


def _unpacked(archive: zipfile.ZipFile, name: str, folder: Path) -> Array:
    """Map an archive's array from an unnamed file, which disappears with the process, however that ends."""
    with tempfile.TemporaryFile(dir=folder) as file, archive.open(name) as member:
        shutil.copyfileobj(member, file, 2**20)
        file.seek(0)
        return _mapped(file)


def _mapped(file: IO[bytes]) -> Array:
    """Map an open .npy file; ValueError if it is none, or has Python objects or no rows."""
    dims, is_fortran, dtype = read_header(file)
    return np.memmap(file, dtype, "r", file.tell(), dims, "F" if is_fortran else "C")


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read a .npy file up to its values: shape, whether in Fortran's order, dtype.

    Raises:
        ValueError: it is none, or has Python objects or no rows.
    """
    magic = npy.read_magic(file)  # type: ignore[no-untyped-call]
    header = npy.read_array_header_1_0 if magic == (1, 0) else npy.read_array_header_2_0
    dims, is_fortran, dtype = header(file)  # type: ignore[no-untyped-call]
    if dtype.hasobject:
        raise ValueError("it contains Python objects; save texts with dtype 'S' or 'U'")
    if not all(dims) or not dims:
        raise ValueError(f"shape {list(dims)} has no rows to send")
    return dims, is_fortran, dtype
