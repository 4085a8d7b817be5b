"""The rows of a data set of many files, wherever pyarrow reaches: Parquet, images, or one .npy.

Whoever plans the work knows the files and numbers their rows; a worker opens some of them, by their numbers.
"""

import bisect
import itertools
import math
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from clients.batch.columns import TableRows, chosen_columns
from clients.batch.places import File, Place
from clients.batch.sources import Loaded, Rows, array_rows, image_rows, read_header
from clients.contract import Array, Contract
from clients.errors import InvalidInput
from clients.images import SUFFIXES, image_readers
from clients.output import printable

# Rows of a part, unless they are large: a worker holds a part of a table or an array in memory.
PART_ROWS, _PART_BYTES = 4096, 64 * 2**20
# A row group is decoded from its beginning: much smaller parts would decode it over and over.
_PARTS_OF_A_GROUP = 8
_FOOTERS_AT_ONCE, _DECODED_ROWS = 16, 1024
# The first rows have to fit the model, not all of them.
_TRIED_ROWS = 64
Kind = Literal["images", "parquet", "npy"]


@dataclass(frozen=True)
class Segment:
    """Some rows of one file; an image is one row."""

    file: str
    start: int
    stop: int


@dataclass(frozen=True)
class DataSet:
    """Files and the number of rows of each, in the order of their names."""

    place: Place
    kind: Kind
    files: tuple[File, ...]
    counts: tuple[int, ...]
    row_bytes: int = 0  # in memory, about
    group_rows: int = 0  # of the largest row group

    @property
    def column(self) -> str:
        """The name of the output's first column, which says which row it is."""
        return "file" if self.kind == "images" else "row"

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *itertools.accumulate(self.counts)]

    @property
    def rows(self) -> int:
        """How many rows all files have."""
        return self._starts[-1]

    @property
    def identity(self) -> Mapping[str, Any]:
        """Each file's name, its size and the time of its last change: the same JSON as long as the rows are."""
        return {"files": [[printable(file.name), file.size, file.mtime_ns] for file in self.files]}

    def segments(self, rows: range) -> list[Segment]:
        """Where some rows are, in order."""
        found, row = [], rows.start
        while row < rows.stop:
            place = bisect.bisect_right(self._starts, row) - 1
            stop = min(rows.stop, self._starts[place + 1])
            found.append(Segment(self.files[place].name, row - self._starts[place], stop - self._starts[place]))
            row = stop
        return found

    def part_rows(self, batch_size: int, wanted: int | None = None) -> int:
        """How many rows make a part, in whole requests."""
        rows = max(min(PART_ROWS, _PART_BYTES // max(1, self.row_bytes)), self.group_rows // _PARTS_OF_A_GROUP, 1)
        return -(-(wanted or rows) // batch_size) * batch_size


def open_dataset(place: Place, contract: Contract) -> DataSet:
    """Find the files of a data set, count their rows, and try the first ones on the model's contract.

    Raises:
        InvalidInput: there is nothing to read, or it does not fit the model.
    """
    dataset = _found(place)
    if dataset.kind == "images":
        image_readers(contract)
    else:
        _try_first_rows(dataset, contract)
    return dataset


def _found(place: Place) -> DataSet:
    files = place.files()
    suffixes = [Path(file.name or place.path).suffix.lower() for file in files]
    # What other programs have not finished is in folders like _temporary.
    tables = [file for file, suffix in zip(files, suffixes, strict=True) if suffix == ".parquet" and file.is_shown]
    images = [file for file, suffix in zip(files, suffixes, strict=True) if suffix in SUFFIXES]
    if tables:
        dataset = _tables(place, tables)
    elif suffixes == [".npy"]:
        dataset = _array(place, files[0])
    else:
        dataset = DataSet(place, "images", tuple(images), (1,) * len(images))
    if not dataset.rows:
        why = "" if files else "; nothing is there"
        if suffixes == [".npz"]:
            why = "; the output of a .npz is one file, so give an OUTPUT *.parquet or *.npz"
        raise InvalidInput(f"{place.text}: expected rows in Parquet files or in a .npy, or a folder of images{why}")
    return dataset


def _try_first_rows(dataset: DataSet, contract: Contract) -> None:
    rows = range(min(dataset.rows, _TRIED_ROWS))
    requests, errors = open_rows(dataset.place, dataset.kind, dataset.segments(rows), contract).load(rows)
    if not requests:
        raise InvalidInput(f"{dataset.place.text}: {errors[0]}")
    contract.check({name: array[: contract.max_batch_size or None] for name, array in requests[0].items()})


def _array(place: Place, file: File) -> DataSet:
    with place.open(file.name) as opened:
        dims, is_fortran, dtype = _header(place, opened)
    if is_fortran:
        raise InvalidInput(f"{place.text} has its values in Fortran's order; save numpy.ascontiguousarray of it")
    return DataSet(place, "npy", (file,), (dims[0],), math.prod(dims[1:]) * dtype.itemsize)


def _header(place: Place, file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        return read_header(file)
    except ValueError as error:
        raise InvalidInput(f"{place.text} is no .npy that can be read: {error}; write it with numpy.save") from error


def _tables(place: Place, files: Sequence[File]) -> DataSet:
    from pyarrow import parquet

    def footer(file: File) -> tuple[int, int, int]:
        try:
            with place.open(file.name) as opened:
                metadata = parquet.read_metadata(opened)
        except (OSError, ValueError) as error:  # pyarrow's own derive from these.
            raise InvalidInput(f"{place.below(file.name)} is no Parquet file that can be read: {error}") from error
        groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
        size = sum(group.total_byte_size for group in groups)
        return metadata.num_rows, size, max((group.num_rows for group in groups), default=0)

    with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
        counts, sizes, groups = zip(*pool.map(footer, files), strict=True)
    return DataSet(place, "parquet", tuple(files), counts, sum(sizes) // max(1, sum(counts)), max(groups))


def open_rows(place: Place, kind: Kind, segments: Sequence[Segment], contract: Contract) -> Rows:
    """Open some rows of a data set, numbered from 0.

    Raises:
        InvalidInput: a file cannot be read any more, or has other columns than others.
    """
    if kind == "images":
        names = [segment.file for segment in segments]
        return image_rows(Path(place.path), names, contract) if place.is_local else _Fetched(place, names, contract)
    if kind == "npy":
        return array_rows(np.concatenate([_read_array(place, segment) for segment in segments]), contract)
    return _read_tables(place, segments, contract)


def _read_array(place: Place, segment: Segment) -> Array:
    with place.open(segment.file) as file:
        dims, _, dtype = _header(place, file)
        size = math.prod(dims[1:]) * dtype.itemsize
        file.seek(file.tell() + segment.start * size)
        content = file.read((segment.stop - segment.start) * size)
    return np.frombuffer(content, dtype).reshape(segment.stop - segment.start, *dims[1:])


def _read_tables(place: Place, segments: Sequence[Segment], contract: Contract) -> TableRows:
    import pyarrow as pa
    from pyarrow import parquet

    tables, columns = [], {}
    for segment in segments:
        try:
            with place.open(segment.file) as opened, parquet.ParquetFile(opened) as file:
                columns = chosen_columns(file.schema_arrow.names, contract)
                tables.append(pa.Table.from_batches(_batches(file, segment, sorted(set(columns.values())))))
        except (OSError, ValueError, InvalidInput) as error:
            raise InvalidInput(f"{place.below(segment.file)}: {error}") from error
    try:
        return TableRows(pa.concat_tables(tables, promote_options="permissive"), columns, contract)
    except pa.ArrowException as error:
        files = " and ".join(place.below(segment.file) for segment in (segments[0], segments[-1]))
        raise InvalidInput(f"the columns of {files} differ in their types: {error}") from error


def _batches(file: Any, segment: Segment, columns: Sequence[str]) -> list[Any]:
    """The rows of a segment, decoded from the beginning of the first row group that has any of them."""
    stops = list(itertools.accumulate(file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)))
    first, last = bisect.bisect_right(stops, segment.start), bisect.bisect_left(stops, segment.stop)
    row, found = stops[first - 1] if first else 0, []
    for batch in file.iter_batches(_DECODED_ROWS, range(first, last + 1), columns):
        wanted = batch.slice(max(0, segment.start - row), max(0, segment.stop - max(row, segment.start)))
        found += [wanted] if wanted.num_rows else []
        row += batch.num_rows
        if row >= segment.stop:
            break
    return found


@dataclass(frozen=True)
class _Fetched:
    """Images of another place than this host's disks: those of a request are copied here while it is made."""

    place: Place
    names: Sequence[str]
    contract: Contract
    column: str = "file"

    def labels(self, rows: range) -> Array:
        return np.array([printable(self.names[row]) for row in rows], dtype=np.str_)

    def load(self, rows: range) -> Loaded:
        wanted = [self.names[row] for row in rows]
        with tempfile.TemporaryDirectory() as folder:
            # Under names of our own: those of an object store may lead anywhere.
            files = [f"{number}{Path(name).suffix}" for number, name in enumerate(wanted)]
            for file, name in zip(files, wanted, strict=True):
                (Path(folder) / file).write_bytes(self.place.read(name))
            requests, errors = image_rows(Path(folder), files, self.contract).load(range(len(files)))
            places = [
                (str(Path(folder) / file), f"{self.place.text}/{name}")
                for file, name in zip(files, wanted, strict=True)
            ]
        return requests, [error.replace(*place) for error, place in zip(errors, places, strict=True)]
