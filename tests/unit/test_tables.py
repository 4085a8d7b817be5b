"""Outputs of large sets: every dtype in both formats, the same bytes for the same rows, rows without outputs."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from clients.batch import tables
from clients.batch.chunks import Chunk, empty_row
from clients.batch.tables import Table, check_format, write_table
from clients.contract import Array, Contract, TensorSpec
from clients.errors import InvalidInput

X = TensorSpec("X", "FP32", (3,))


def chunk(*values: float | None) -> Chunk:
    """Rows with one number, or an error in place of it."""
    errors = np.array(["" if value is not None else "no good" for value in values])
    good = [[value, -value] for value in values if value is not None]
    return Chunk(errors, {"Y": np.array(good, np.float32)} if good else {}, np.arange(len(errors)))


def table(parts: Sequence[Chunk], label: str = "row") -> Table:
    """A table of chunks, with the outputs of the first good one."""
    heads = {name: array[:1] for part in reversed(parts) for name, array in part.outputs.items()}
    rows = sum(len(part.errors) for part in parts)

    def pieces() -> Iterator[tuple[Array, Chunk]]:
        start = 0
        for part in parts:
            numbers = np.arange(start, start := start + len(part.errors))
            yield (numbers if label == "row" else np.array([f"{number}.png" for number in numbers])), part

    return Table(label, heads, rows, pieces)


EVERY_KIND = Chunk(
    np.array(["", "bad", ""]),
    {
        "half": np.array([[1], [2]], np.float16),
        "double": np.array([[[1.5, np.nan]], [[2, 3]]]),
        "whole": np.array([[1, 2], [3, 4]], np.uint8),
        "flag": np.array([[True], [True]]),
        "text": np.array([["a"], ["längst"]]),
        "texts": np.array([["a", "b"], ["c", "d"]]),
    },
    np.array([1, 1, 1]),
)


def test_a_npz_has_every_dtype_and_fills_rows_without_outputs(tmp_path: Path) -> None:
    write_table(tmp_path / "t.npz", table([EVERY_KIND, EVERY_KIND], "file"))
    with np.load(tmp_path / "t.npz") as arrays:
        assert arrays.files == ["file", *EVERY_KIND.outputs, "error"]
        for name, array in EVERY_KIND.outputs.items():
            assert arrays[name].dtype == array.dtype and arrays[name].shape == (6, *array.shape[1:])
            np.testing.assert_array_equal(arrays[name][[0, 2, 3, 5]], np.concatenate([array, array]))
        assert np.isnan(arrays["double"][1]).all() and arrays["whole"][1].tolist() == [0, 0]
        assert arrays["flag"][1].tolist() == [False] and arrays["text"][1].tolist() == [""]


def test_parquet_has_every_dtype_and_nulls_in_rows_without_outputs(tmp_path: Path) -> None:
    write_table(tmp_path / "t.parquet", table([EVERY_KIND, EVERY_KIND], "file"))
    stored = pyarrow.parquet.read_table(tmp_path / "t.parquet")
    types = [str(field.type).replace("element", "item") for field in stored.schema]
    assert types[0] == types[5] == types[7] == "string"
    assert types[1:3] == ["fixed_size_list<item: halffloat>[1]", "fixed_size_list<item: double>[2]"]
    assert stored.schema.field("double").metadata == {b"shape": b"[1, 2]"}
    rows = stored.to_pylist()
    assert rows[1] == {
        "file": "1.png",
        "half": [None],
        "double": [None, None],
        "whole": [None, None],
        "flag": [None],
        "text": None,
        "texts": [None, None],
        "error": "bad",
    }
    assert np.isnan(rows[0]["double"][1]) and rows[2]["texts"] == ["c", "d"] and rows[2]["error"] is None


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_equal_contents_make_equal_files(suffix: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_table(tmp_path / f"{name}.{suffix}", table([chunk(1, None), chunk(None), chunk(3)]))
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


def test_row_groups_consist_of_several_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "GROUP_ROWS", 4)
    write_table(tmp_path / "t.parquet", table([chunk(1, 2, 3)] * 5))
    metadata = pyarrow.parquet.ParquetFile(tmp_path / "t.parquet").metadata
    assert [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)] == [6, 6, 3]


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_an_output_without_a_good_row_has_the_shape_that_the_model_declares(suffix: str, tmp_path: Path) -> None:
    specs = {"Y": TensorSpec("Y", "INT32", (-1, 2)), "L": TensorSpec("L", "BYTES", (1,))}
    wanted = Contract("m", ("1",), 4, (X,), tuple(specs.values()))
    empty = Table(
        "row", {name: empty_row(wanted, name) for name in specs}, 2, lambda: iter([(np.arange(2), chunk(None, None))])
    )
    write_table(tmp_path / f"t.{suffix}", empty)
    if suffix == "npz":
        with np.load(tmp_path / "t.npz") as arrays:
            assert arrays["Y"].tolist() == [[[0, 0]]] * 2 and arrays["L"].tolist() == [[""]] * 2
    else:
        rows = pyarrow.parquet.read_table(tmp_path / "t.parquet").to_pylist()
        assert [(row["Y"], row["L"]) for row in rows] == [([None, None], None)] * 2


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_a_column_says_which_version_was_asked(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"t.{suffix}"
    write_table(path, replace(table([chunk(1, None, 3), chunk(4, 5)]), has_versions=True))
    if suffix == "npz":
        with np.load(path) as arrays:
            assert arrays.files == ["row", "Y", "version", "error"]
            assert arrays["version"].tolist() == [0, 1, 2, 0, 1]
    else:
        read = pyarrow.parquet.read_table(path)
        assert read.column_names == ["row", "Y", "version", "error"]
        assert read["version"].to_pylist() == [0, 1, 2, 0, 1]


def test_an_output_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "folder.npz").mkdir()
    for name, words in (("t.csv", "expected an output"), ("no/t.npz", "there is no folder"), ("folder.npz", "is a")):
        with pytest.raises(InvalidInput, match=words):
            check_format(tmp_path / name)
