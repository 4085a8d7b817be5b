"""One table out of many finished chunks, streamed: Parquet for data tools, .npz for numpy.

Both hold the same: `file` or `row`, the outputs, and `error`. A row with an error has NaN in a .npz's float outputs and
0, False or "" in others, and lists of nulls in Parquet.
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

FORMATS = (".parquet", ".npz")
# Readers of Parquet want groups of this order; a group has to fit in memory twice.
GROUP_ROWS, GROUP_BYTES = 65_536, 64 * 2**20


@dataclass(frozen=True)
class Table:
    """What is to be written.

    Attributes:
        label: name of the first column.
        heads: some row of each output, [1, ...], for its dtype and shape.
        rows: how many in all.
        chunks: the labels and contents of all chunks, in order, as often as it is called.
    """

    label: str
    heads: Mapping[str, Array]
    rows: int
    chunks: Callable[[], Iterator[tuple[Array, Chunk]]]


def check_format(path: Path) -> None:
    """Refuse an output that could not be written, before anything is computed for it.

    Raises:
        InvalidInput: another suffix, no such folder, a folder of that name, or pyarrow is missing.
    """
    if path.suffix not in FORMATS:
        raise InvalidInput(f"{path}: expected an output {' or '.join('*' + one for one in FORMATS)}")
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
        write_parquet(path, table)
    else:
        write_npz(path, table)


def spread(chunk: Chunk, name: str, head: Array) -> Array:
    """An output with a place for every row, [rows, ...]; those with an error are filled."""
    values = chunk.outputs.get(name)
    dtype = head.dtype if values is None else values.dtype
    full = np.full((len(chunk.errors), *head.shape[1:]), np.nan if dtype.kind == "f" else np.zeros((), dtype), dtype)
    if values is not None:
        full[chunk.good] = values
    return full


def write_npz(path: Path, table: Table) -> None:
    """Arrays by column name, for numpy.load."""
    with zipfile.ZipFile(path, "w") as archive:
        add_array(archive, table.label, lambda: (labels for labels, _ in table.chunks()), table.rows)
        for name, head in table.heads.items():
            add_array(archive, name, partial(spread_all, table, name, head), table.rows)
        add_array(archive, "error", lambda: (chunk.errors for _, chunk in table.chunks()), table.rows)


def spread_all(table: Table, name: str, head: Array) -> Iterator[Array]:
    """An output, chunk by chunk."""
    return (spread(chunk, name, head) for _, chunk in table.chunks())


def add_array(archive: zipfile.ZipFile, name: str, parts: Callable[[], Iterator[Array]], rows: int) -> None:
    """Write one array part by part, which `numpy.savez` cannot; a first pass finds the width of texts."""
    dtype = np.result_type(*{part.dtype for part in parts()})
    shape = (rows, *next(parts()).shape[1:])
    # An entry without a date: equal contents make equal files.
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
        header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(member, header)  # type: ignore[no-untyped-call]
        for part in parts():
            member.write(part.astype(dtype, order="C", copy=False).tobytes())


def write_parquet(path: Path, table: Table) -> None:
    """A Parquet file, one row group after the other."""
    import pyarrow as pa
    from pyarrow import parquet

    schema = parquet_schema(table)
    with parquet.ParquetWriter(path, schema) as writer:
        for batches in groups(record_batch(schema, table, labels, chunk) for labels, chunk in table.chunks()):
            group = pa.Table.from_batches(batches, schema)
            writer.write_table(group, row_group_size=group.num_rows)


def groups(batches: Iterator[Any]) -> Iterator[list[Any]]:
    """Record batches gathered to row groups."""
    group: list[Any] = []
    rows = size = 0
    for batch in batches:
        group.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows >= GROUP_ROWS or size >= GROUP_BYTES:
            yield group
            group, rows, size = [], 0, 0
    if group:
        yield group


def parquet_schema(table: Table) -> Any:
    """The file's columns; the shape that an output's flat list had is in its field's metadata."""
    import pyarrow as pa

    outputs = [
        pa.field(name, parquet_type(head), metadata={"shape": str(list(head.shape[1:]))})
        for name, head in table.heads.items()
    ]
    label = pa.field(table.label, pa.int64() if table.label == "row" else pa.string())
    return pa.schema([label, *outputs, pa.field("error", pa.string())])


def parquet_type(head: Array) -> Any:
    """A list of fixed size; a single text is a plain string."""
    import pyarrow as pa

    size = int(np.prod(head.shape[1:]))
    if head.dtype.kind == "U":
        return pa.string() if size == 1 else pa.list_(pa.string(), size)
    return pa.list_(pa.from_numpy_dtype(head.dtype), size)


def record_batch(schema: Any, table: Table, labels: Array, chunk: Chunk) -> Any:
    """One chunk as Arrow has it."""
    import pyarrow as pa

    outputs = [
        parquet_column(schema.field(name).type, spread(chunk, name, head), ~chunk.good)
        for name, head in table.heads.items()
    ]
    errors = pa.array(chunk.errors.astype(object), pa.string(), mask=chunk.good)
    first = pa.array(labels.astype(object) if labels.dtype.kind == "U" else labels, schema.field(0).type)
    return pa.RecordBatch.from_arrays([first, *outputs, errors], schema=schema)


def parquet_column(kind: Any, values: Array, missing: Array) -> Any:
    """An output [rows, ...] as lists or strings; where rows are missing, lists of nulls.

    A null in place of the whole list would be the thing to write, but Arrow up to 25 cannot read it back (#35692).
    """
    import pyarrow as pa

    flat = values.reshape(-1)
    mask = np.repeat(missing, flat.size // max(len(values), 1))
    of = kind if pa.types.is_string(kind) else kind.value_type
    items = pa.array(flat.astype(object) if flat.dtype.kind == "U" else flat, of, mask=mask)
    return items if pa.types.is_string(kind) else pa.FixedSizeListArray.from_arrays(items, type=kind)
