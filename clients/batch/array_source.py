"""Arrays in .npy and .npz files as rows, mapped into memory and read only where they are touched."""

import hashlib
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from clients.batch.sources import Loaded
from clients.contract import Array, Contract
from clients.errors import InvalidInput

UNREADABLE = (ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class ArraySource:
    """Arrays by input name, mapped from files; the first axis is the rows."""

    path: Path
    arrays: Mapping[str, Array]
    contract: Contract
    column: str = "row"

    @property
    def rows(self) -> int:
        """The length of the first axis."""
        return len(next(iter(self.arrays.values())))

    @property
    def identity(self) -> Mapping[str, Any]:
        """The file's SHA-256; its name does not matter."""
        with self.path.open("rb") as file:
            return {"sha256": hashlib.file_digest(file, "sha256").hexdigest()}

    def labels(self, rows: range) -> Array:
        """Row numbers."""
        return np.arange(rows.start, rows.stop, dtype=np.int64)

    def load(self, rows: range) -> Loaded:
        """One request of these rows; a model without batches gets its one row bare."""
        return Loaded([{name: self.cut(array, rows) for name, array in self.arrays.items()}])

    def cut(self, array: Array, rows: range) -> Array:
        """Some rows in memory of their own; texts as the objects that BYTES are made from."""
        cut = array[rows.start : rows.stop] if self.contract.batched else array[rows.start]
        return np.array(cut, dtype=object if array.dtype.kind in "SU" else None, order="C")


def array_source(path: Path, contract: Contract, spool: Path) -> ArraySource:
    """The arrays of a file, checked against the model's contract by their first row.

    Args:
        path: a .npy for a model of one input, or a .npz with an array for each input.
        contract: the model that they are for.
        spool: a folder on a disk with room for the arrays of a .npz.

    Raises:
        InvalidInput: the file cannot be mapped, or does not suit the model.
    """
    try:
        arrays = mapped_arrays(path, contract, spool)
    except UNREADABLE as error:
        raise InvalidInput(f"{path} cannot be mapped as numpy arrays: {error}; write it with numpy.save") from error
    check_arrays(path, arrays)
    source = ArraySource(path, arrays, contract)
    contract.check(source.load(range(1)).requests[0])
    return source


def mapped_arrays(path: Path, contract: Contract, spool: Path) -> dict[str, Array]:
    """A file's arrays by input name; a bare array is the model's only input."""
    if path.suffix == ".npy":
        with path.open("rb") as file:
            return contract.named(mapped(file))
    with zipfile.ZipFile(path) as archive:
        return {name.removesuffix(".npy"): unpacked(archive, name, spool) for name in archive.namelist()}


def unpacked(archive: zipfile.ZipFile, name: str, folder: Path) -> Array:
    """An archive's array, mapped from a nameless file on disk that goes when the process goes, however it ends."""
    with tempfile.TemporaryFile(dir=folder) as file, archive.open(name) as member:
        shutil.copyfileobj(member, file, 2**20)
        file.seek(0)
        return mapped(file)


def mapped(file: IO[bytes]) -> Array:
    """The array of an open .npy file, read only where it is touched.

    Raises:
        ValueError: it is no .npy file, or holds Python objects or no row.
    """
    magic = npy.read_magic(file)  # type: ignore[no-untyped-call]
    header = npy.read_array_header_1_0 if magic == (1, 0) else npy.read_array_header_2_0
    dims, fortran, dtype = header(file)  # type: ignore[no-untyped-call]
    if dtype.hasobject:
        raise ValueError("it holds Python objects; save texts with dtype 'S' or 'U'")
    if not all(dims) or not dims:
        raise ValueError(f"shape {list(dims)} has no rows to send")
    return np.memmap(file, dtype, "r", file.tell(), dims, "F" if fortran else "C")


def check_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Refuse arrays that are no rows side by side."""
    rows = {name: len(array) for name, array in arrays.items()}
    if len(set(rows.values())) != 1:
        raise InvalidInput(f"{path}: expected arrays with the same number of rows (first axis), got {rows or 'none'}")
