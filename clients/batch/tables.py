"""One table of many finished chunks, streamed: Parquet for data tools, .npz for numpy.

Both have the same columns: `file` or `row`, the outputs, `version` where several model versions may have answered, and
`error`. In a .npz, a row with an error has NaN in float
outputs and 0, False or "" in others; in Parquet it has lists of nulls.
"""

import math
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from clients.batch.chunks import Chunk
from clients.contract import Array
from clients.errors import InvalidInput
from clients.installation import how_to_install
from clients.output import try_folder

# Readers of Parquet expect row groups of about this size; a group has to fit in memory twice.
GROUP_ROWS, _GROUP_BYTES = 65_536, 64 * 2**20
SHOWN_ERRORS = 5


@dataclass(frozen=True)
class Table:
    """What to write."""

    label: str  # name of the first column
    heads: Mapping[str, Array]  # a row of each output, [1, ...], for its dtype and shape
    rows: int
    # Iterates over the labels and contents of all chunks, in order; called once for each pass.
    chunks: Callable[[], Iterator[tuple[Array, Chunk]]]
    has_versions: bool = False  # whether a column says which model version was asked
    # Outputs whose rows may have another shape elsewhere, with their dims: their lists are of no fixed size.
    varying: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """The names of all columns, in order."""
        return [self.label, *self.heads, *(["version"] if self.has_versions else []), "error"]

    def column(self, name: str) -> Iterator[Array]:
        """A column, chunk by chunk, with a value for every row."""
        for labels, chunk in self.chunks():
            if name in self.heads:
                yield _with_gaps(chunk, name, self.heads[name])
            else:
                yield {self.label: labels, "version": chunk.versions}.get(name, chunk.errors)

    def first_errors(self) -> list[list[Any]]:
        """The label and the error of the first SHOWN_ERRORS rows that have one."""
        bad = (
            [label, error]
            for labels, chunk in self.chunks()
            for label, error in zip(labels.tolist(), chunk.errors.tolist(), strict=True)
            if error
        )
        return list(islice(bad, SHOWN_ERRORS))


def check_format(path: Path) -> None:
    """Refuse an output that could not be written, before anything is computed for it.

    Raises:
        InvalidInput: another suffix, a folder that is missing or cannot be written to, a folder of that name, or
            pyarrow is missing.
    """
    if path.suffix not in (".parquet", ".npz"):
        raise InvalidInput(f"{path}: expected an output *.parquet or *.npz, or a folder, with / at its end")
    if path.is_dir() or not path.parent.is_dir():
        raise InvalidInput(f"{path}: {'is a folder' if path.is_dir() else f'there is no folder {path.parent}'}")
    try_folder(path.parent, "OUTPUT")
    if path.suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise InvalidInput(
                f"{path}: Parquet needs pyarrow ({error}); run {how_to_install('client')}, or write .npz"
            ) from error


def write_table(path: Path, table: Table) -> None:
    """Write a table in the format of the path's suffix."""
    if path.suffix == ".parquet":
        return write_parquet(path, table)
    with zipfile.ZipFile(path, "w") as archive:
        for name in table.columns:
            _add_array(archive, table, name)


def _with_gaps(chunk: Chunk, name: str, head: Array) -> Array:
    """An output of a chunk with a value for every row, [rows, ...], also for those with an error."""
    values = chunk.outputs.get(name)
    dtype = head.dtype if values is None else values.dtype
    full = np.full((len(chunk.errors), *head.shape[1:]), np.nan if dtype.kind == "f" else np.zeros((), dtype), dtype)
    if values is not None:
        full[chunk.good] = values
    return full


def _add_array(archive: zipfile.ZipFile, table: Table, name: str) -> None:
    """Write one column part by part, which `numpy.savez` cannot; a first pass determines the width of texts."""
    dtype = np.result_type(*{part.dtype for part in table.column(name)})
    shape = (table.rows, *next(table.column(name)).shape[1:])
    # An entry without a date: equal contents make equal files.
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
        header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(member, header)  # type: ignore[no-untyped-call]
        for part in table.column(name):
            member.write(part.astype(dtype, order="C", copy=False).tobytes())


def write_parquet(place: Path | IO[bytes], table: Table) -> None:
    """Write a table to a file, or into a stream."""
    import pyarrow as pa
    from pyarrow import parquet

    # A list of fixed size for each output, whose shape is in the metadata; a single text is a plain string.
    fields = [pa.field(table.label, pa.int64() if table.label == "row" else pa.string())]
    for name, head in table.heads.items():
        size, is_text = math.prod(head.shape[1:]), head.dtype.kind == "U"
        item = pa.string() if is_text else pa.from_numpy_dtype(head.dtype)
        varies, shape = name in table.varying, list(table.varying.get(name, head.shape[1:]))
        kind = item if is_text and size == 1 and not varies else pa.list_(item, -1 if varies else size)
        fields.append(pa.field(name, kind, metadata={"shape": str(shape)}))
    if table.has_versions:
        fields.append(pa.field("version", pa.int64()))
    schema = pa.schema([*fields, pa.field("error", pa.string())])
    with parquet.ParquetWriter(place, schema) as writer:
        for batches in _row_groups(_record_batch(schema, table, labels, chunk) for labels, chunk in table.chunks()):
            group = pa.Table.from_batches(batches, schema)
            writer.write_table(group, row_group_size=group.num_rows)


def _row_groups(batches: Iterator[Any]) -> Iterator[list[Any]]:
    group: list[Any] = []
    rows = size = 0
    for batch in batches:
        group.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows >= GROUP_ROWS or size >= _GROUP_BYTES:
            yield group
            group, rows, size = [], 0, 0
    if group:
        yield group


def _record_batch(schema: Any, table: Table, labels: Array, chunk: Chunk) -> Any:
    """The columns of a chunk: labels, outputs [rows, ...] as strings or lists, errors.

    A row without outputs has lists of nulls. A null in place of the whole list would be the natural choice, but Arrow
    up to 25 cannot read it back (#35692).
    """
    import pyarrow as pa

    columns = [pa.array(labels.astype(object) if labels.dtype.kind == "U" else labels, schema.field(0).type)]
    for name, head in table.heads.items():
        kind, values = schema.field(name).type, _with_gaps(chunk, name, head)
        flat = values.reshape(-1)
        mask = np.repeat(~chunk.good, flat.size // max(len(values), 1))
        item = kind if pa.types.is_string(kind) else kind.value_type
        items = pa.array(flat.astype(object) if flat.dtype.kind == "U" else flat, item, mask=mask)
        if item == kind:
            columns.append(items)
        elif pa.types.is_list(kind):
            offsets = pa.array(np.linspace(0, len(items), len(values) + 1, dtype=np.int32))
            columns.append(pa.ListArray.from_arrays(offsets, items, type=kind))
        else:
            columns.append(pa.FixedSizeListArray.from_arrays(items, type=kind))
    if table.has_versions:
        columns.append(pa.array(chunk.versions, pa.int64()))
    columns.append(pa.array(chunk.errors.astype(object), pa.string(), mask=chunk.good))
    return pa.RecordBatch.from_arrays(columns, schema=schema)
