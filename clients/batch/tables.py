"""One table of many finished chunks, streamed: Parquet for data tools, .npz for numpy.

Both have the same columns: `file` or `row`, the outputs, and `error`. In a .npz, a row with an error has NaN in float
outputs and 0, False or "" in others; in Parquet it has lists of nulls.
"""

import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from clients.batch.chunks import Chunk
from clients.contract import Array
from clients.errors import InvalidInput

_FORMATS = (".parquet", ".npz")
# Readers of Parquet expect row groups of about this size; a group has to fit in memory twice.
GROUP_ROWS, _GROUP_BYTES = 65_536, 64 * 2**20


@dataclass(frozen=True)
class Table:
    """What to write.

    Attributes:
        label: name of the first column.
        heads: a row of each output, [1, ...], for its dtype and shape.
        rows: how many in all.
        chunks: iterates over the labels and contents of all chunks, in order; called once for each pass.
    """

    label: str
    heads: Mapping[str, Array]
    rows: int
    chunks: Callable[[], Iterator[tuple[Array, Chunk]]]

    def column(self, name: str) -> Iterator[Array]:
        """An output, chunk by chunk, with a value for every row."""
        return (_with_gaps(chunk, name, self.heads[name]) for _, chunk in self.chunks())


def check_format(path: Path) -> None:
    """Refuse an output that could not be written, before anything is computed for it.

    Raises:
        InvalidInput: another suffix, a missing folder, a folder of that name, or pyarrow is missing.
    """
    if path.suffix not in _FORMATS:
        raise InvalidInput(f"{path}: expected an output *{' or *'.join(_FORMATS)}")
    if path.is_dir() or not path.parent.is_dir():
        raise InvalidInput(f"{path}: {'is a folder' if path.is_dir() else f'there is no folder {path.parent}'}")
    if path.suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise InvalidInput(f"{path}: Parquet needs pyarrow ({error}); run `make setup`, or write .npz") from error


def write_table(path: Path, table: Table) -> None:
    """Write a table in the format of the path's suffix."""
    if path.suffix == ".parquet":
        _write_parquet(path, table)
    else:
        _write_npz(path, table)


def _with_gaps(chunk: Chunk, name: str, head: Array) -> Array:
    """An output of a chunk with a value for every row, [rows, ...], also for those with an error."""
    values = chunk.outputs.get(name)
    dtype = head.dtype if values is None else values.dtype
    full = np.full((len(chunk.errors), *head.shape[1:]), np.nan if dtype.kind == "f" else np.zeros((), dtype), dtype)
    if values is not None:
        full[chunk.good] = values
    return full


def _write_npz(path: Path, table: Table) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        _add_array(archive, table.label, lambda: (labels for labels, _ in table.chunks()), table.rows)
        for name in table.heads:
            _add_array(archive, name, partial(table.column, name), table.rows)
        _add_array(archive, "error", lambda: (chunk.errors for _, chunk in table.chunks()), table.rows)


def _add_array(archive: zipfile.ZipFile, name: str, parts: Callable[[], Iterator[Array]], rows: int) -> None:
    """Write one array part by part, which `numpy.savez` cannot; a first pass determines the width of texts."""
    dtype = np.result_type(*{part.dtype for part in parts()})
    shape = (rows, *next(parts()).shape[1:])
    # An entry without a date: equal contents make equal files.
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
        header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(member, header)  # type: ignore[no-untyped-call]
        for part in parts():
            member.write(part.astype(dtype, order="C", copy=False).tobytes())


def _write_parquet(path: Path, table: Table) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    schema = _schema(table)
    with parquet.ParquetWriter(path, schema) as writer:
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


def _schema(table: Table) -> Any:
    """The file's columns; the metadata of an output has the shape of its flattened rows."""
    import pyarrow as pa

    outputs = [
        pa.field(name, _column_type(head), metadata={"shape": str(list(head.shape[1:]))})
        for name, head in table.heads.items()
    ]
    label = pa.field(table.label, pa.int64() if table.label == "row" else pa.string())
    return pa.schema([label, *outputs, pa.field("error", pa.string())])


def _column_type(head: Array) -> Any:
    """A list of fixed size; a single text is a plain string."""
    import pyarrow as pa

    size = int(np.prod(head.shape[1:]))
    if head.dtype.kind == "U":
        return pa.string() if size == 1 else pa.list_(pa.string(), size)
    return pa.list_(pa.from_numpy_dtype(head.dtype), size)


def _record_batch(schema: Any, table: Table, labels: Array, chunk: Chunk) -> Any:
    import pyarrow as pa

    outputs = [
        _arrow_column(schema.field(name).type, _with_gaps(chunk, name, head), ~chunk.good)
        for name, head in table.heads.items()
    ]
    errors = pa.array(chunk.errors.astype(object), pa.string(), mask=chunk.good)
    first = pa.array(labels.astype(object) if labels.dtype.kind == "U" else labels, schema.field(0).type)
    return pa.RecordBatch.from_arrays([first, *outputs, errors], schema=schema)


def _arrow_column(kind: Any, values: Array, missing: Array) -> Any:
    """An output [rows, ...] as lists or strings; missing rows are lists of nulls.

    A null in place of the whole list would be the natural choice, but Arrow up to 25 cannot read it back (#35692).
    """
    import pyarrow as pa

    flat = values.reshape(-1)
    mask = np.repeat(missing, flat.size // max(len(values), 1))
    item = kind if pa.types.is_string(kind) else kind.value_type
    items = pa.array(flat.astype(object) if flat.dtype.kind == "U" else flat, item, mask=mask)
    return items if pa.types.is_string(kind) else pa.FixedSizeListArray.from_arrays(items, type=kind)
