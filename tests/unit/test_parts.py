"""Data sets of many files, rows of tables, and folders of parts, without a server."""

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import fs, parquet

from clients.batch.chunks import Chunk
from clients.batch.cluster import _done, on_ray
from clients.batch.columns import TableRows, chosen_columns
from clients.batch.datasets import open_dataset, open_rows
from clients.batch.parts import open_folder
from clients.batch.places import Place, check_apart, place_of
from clients.batch.tables import Table
from clients.batch.work import Failure, Part
from clients.contract import Contract, TensorSpec
from clients.errors import InvalidInput

JOB: Mapping[str, Any] = {"model": "m", "model_version": "1", "rows": 4}


def contract(*inputs: TensorSpec, most: int = 8) -> Contract:
    return Contract("m", ("1",), most, inputs, (TensorSpec("Y", "FP32", (2,)),))


PAIR = contract(TensorSpec("X", "FP32", (2,)))


def loaded(column: pa.Array, spec: TensorSpec, most: int = 8) -> tuple[list[Any], list[str]]:
    """What the requests of a table with one column have, and the errors of its rows."""
    table = TableRows(pa.table({"c": column}), {spec.name: "c"}, contract(spec, most=most))
    requests, errors = table.load(range(len(column)))
    return [request[spec.name].tolist() for request in requests], errors


@pytest.mark.parametrize(
    ("column", "dims", "expected"),
    [
        (pa.array([[1.0, 2.0], [3.0, 4.0]]), (2,), [[1, 2], [3, 4]]),
        (pa.array([[1, 2, 3, 4]], pa.list_(pa.int8(), 4)), (2, 2), [[[1, 2], [3, 4]]]),
        (pa.array([[[1.0, 2.0]], [[3.0, 4.0]]]), (1, -1), [[[1, 2]], [[3, 4]]]),
        (pa.array([1.5, 2.5]), (), [1.5, 2.5]),
        (pa.array([1.5, 2.5]), (1,), [[1.5], [2.5]]),
        (pa.array([[1.0], [2.0], [3.0]]).slice(1), (1,), [[2], [3]]),
        (pa.FixedShapeTensorArray.from_numpy_ndarray(np.ones((1, 2, 1))), (2, 1), [[[1], [1]]]),
    ],
    ids=["lists", "flat lists", "nested lists", "scalars", "numbers", "slices", "tensors"],
)
def test_a_column_becomes_an_input(column: pa.Array, dims: tuple[int, ...], expected: list[Any]) -> None:
    assert loaded(column, TensorSpec("X", "FP32", dims)) == ([expected], [""] * len(column))


def test_texts_and_bytes_become_an_input() -> None:
    spec = TensorSpec("T", "BYTES", (1,))
    assert loaded(pa.array(["ü", ""]), spec)[0] == [[["ü"], [""]]]
    assert loaded(pa.array([b"\xff"]), spec)[0] == [[[b"\xff"]]]


def test_rows_of_different_lengths_are_requests_of_their_own() -> None:
    # As many values in all as two rows of two: they must not be taken for these.
    found = loaded(pa.array([[1.0], [2.0, 3.0, 4.0]]), TensorSpec("X", "FP32", (-1,)))
    assert found == ([[[1]], [[2, 3, 4]]], ["", ""])


@pytest.mark.parametrize(
    ("column", "datatype", "words"),
    [
        (pa.array([[1.0, 2.0], None]), "FP32", "a list is missing"),
        (pa.array([[1.0, 2.0], [1.0, None]]), "FP32", "a value is missing"),
        (pa.array([[1.0, 2.0], [1.0]]), "FP32", r"expected X FP32 \[2\], got \[1\]"),
        (pa.array([[1, 2], [300, 1]]), "UINT8", "a value is no UINT8"),
        (pa.array([[1.0, 2.0], [1.5, 2.0]]), "INT32", "a value is no INT32"),
    ],
)
def test_a_row_that_cannot_be_sent_has_the_reason(column: pa.Array, datatype: str, words: str) -> None:
    requests, (good, bad) = loaded(column, TensorSpec("X", datatype, (2,)))
    assert requests == [[[1, 2]]] and good == "" and re.search(words, bad)


def test_a_model_without_batches_gets_a_row_without_a_batch() -> None:
    assert loaded(pa.array([[1.0, 2.0]]), TensorSpec("X", "FP32", (2,)), most=0)[0] == [[1, 2]]


def test_an_input_is_read_from_the_column_of_its_name_or_from_the_only_one() -> None:
    two = contract(TensorSpec("A", "FP32", (1,)), TensorSpec("B", "FP32", (1,), optional=True))
    assert chosen_columns(["id", "A"], two) == {"A": "A"}
    assert chosen_columns(["pixels"], PAIR) == {"X": "pixels"}
    with pytest.raises(InvalidInput, match="no column 'X', but id, pixels; m takes X FP32"):
        chosen_columns(["id", "pixels"], PAIR)


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """Ten rows in two files, with row groups of three."""
    for name, start, stop in (("a", 0, 7), ("b", 7, 10)):
        table = pa.table({"X": [[float(row), 0.0] for row in range(start, stop)]})
        parquet.write_table(table, tmp_path / f"{name}.parquet", row_group_size=3)
    return tmp_path


@pytest.mark.parametrize("rows", [range(10), range(1, 2), range(2, 4), range(5, 9), range(7, 10), range(6, 7)])
def test_any_rows_of_a_data_set_can_be_opened(rows: range, tables: Path) -> None:
    data = open_dataset(place_of(f"file://{tables}"), PAIR)
    assert (data.rows, data.column, data.group_rows) == (10, "row", 3)
    opened = open_rows(data.place, data.kind, data.segments(rows), PAIR)
    (request,), _ = opened.load(range(len(rows)))
    assert request["X"][:, 0].tolist() == list(rows)


def test_parts_are_whole_requests_and_no_small_pieces_of_a_row_group(tables: Path) -> None:
    data = open_dataset(place_of(str(tables)), PAIR)
    assert data.part_rows(64) == 4096 and data.part_rows(100) == 4100 and data.part_rows(4, 5) == 8
    large = type(data)(data.place, "parquet", data.files, (10**6, 5), 1000, 800_000)
    assert large.part_rows(64) == 100_032
    assert type(data)(data.place, "npy", data.files, (10**6,), 2**20).part_rows(8) == 64


def test_rows_of_an_array_are_read_where_they_are(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(20, dtype=np.float32).reshape(10, 2))
    data = open_dataset(place_of(str(tmp_path / "x.npy")), PAIR)
    (request,), _ = open_rows(data.place, data.kind, data.segments(range(4, 6)), PAIR).load(range(2))
    assert data.rows == 10 and request["X"].tolist() == [[8, 9], [10, 11]]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.parquet", b"PAR1", "is no Parquet file that can be read"),
        ("x.npy", b"nothing", "is no .npy that can be read"),
        ("x.npz", b"", "expected rows in Parquet files or in a .npy, or a folder of images"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput, match=words) as error:
        open_dataset(place_of(str(tmp_path / name)), PAIR)
    assert str(tmp_path) in str(error.value)


def test_images_of_another_place_are_fetched_and_called_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "bucket").mkdir()
    Image.new("RGB", (2, 1), "white").save(tmp_path / "bucket" / "good.png")
    (tmp_path / "bucket" / "bad.png").write_text("none")
    # A file system that is not this host's own, as object stores are.
    place = Place(fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), "bucket", "s3://bucket")
    pixels = contract(TensorSpec("P", "UINT8", (1, 2, 3)))
    data = open_dataset(place, pixels)
    rows = open_rows(data.place, data.kind, data.segments(range(2)), pixels)
    (request,), errors = rows.load(range(2))
    assert rows.labels(range(2)).tolist() == ["bad.png", "good.png"] and request["P"].tolist() == [[[[255] * 3] * 2]]
    assert errors[0].startswith("s3://bucket/bad.png is not an image") and errors[1] == ""


def chunk() -> Chunk:
    return Chunk(np.array(["", "bad"]), {"Y": np.ones((1, 2), np.float32)}, np.ones(2, np.int64))


def publish(folder: Any, index: int) -> Any:
    table = Table("row", {"Y": np.ones((1, 2), np.float32)}, 2, lambda: iter([(np.arange(2), chunk())]), True)
    known = {"first_row": 2 * index, "rows": 2, "errors": 1, "versions": [1], "first_good": 0, "samples": []}
    return folder.output.publish(table, index=index, **known)


def test_finished_parts_are_found_again_if_their_files_are_there(tmp_path: Path) -> None:
    place = place_of(str(tmp_path / "out"))
    with open_folder(place) as folder:
        assert folder.begin(JOB) == {}
        records = [publish(folder, index) for index in range(3)]
        assert folder.output.finished(1) == records[1]
    (tmp_path / "out" / "part-00000.parquet").write_bytes(b"cut")
    with open_folder(place) as folder:
        found = folder.begin(JOB)
        assert found == {1: records[1], 2: records[2]} and folder.version == "1"
        assert folder.output.finished(0) is None
        folder.end([publish(folder, 0), *found.values()], rows=6)
    with open_folder(place) as folder:
        assert folder.begin(JOB).keys() == {0, 1, 2} and folder.files["_manifest.json"]
    (tmp_path / "out" / "part-00001.parquet").unlink()
    for _ in range(2):  # A run that fails, and the next one.
        with open_folder(place) as folder:
            assert folder.begin(JOB).keys() == {0, 2}
        assert not (tmp_path / "out" / "_manifest.json").exists()


def test_a_folder_is_one_process_s_at_a_time(tmp_path: Path) -> None:
    place = place_of(str(tmp_path / "out"))
    with open_folder(place), pytest.raises(InvalidInput, match="another run uses"), open_folder(place):
        pass


def test_keys_and_options_of_a_place_are_not_shown() -> None:
    place = place_of("s3://key:secret@bucket/rows/?region=eu-central-1&endpoint_override=127.0.0.1:1")
    assert (place.text, place.path) == ("s3://bucket/rows", "bucket/rows")
    for unknown in ("s3://key:secret/secret@bucket/x", "ftp://key:secret@host/x?key=secret", "s3://key:secret@/x"):
        with pytest.raises(InvalidInput, match="is no place that pyarrow knows") as error:
            place_of(unknown)
        assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("rows", "output"),
    [
        ("a", "a/b"),
        ("a", "a"),
        ("a/b", "a"),
        ("a", "link/b"),
        ("a", "file:///a/../a/b"),
        ("s3://a/b?region=r", "s3://a/b/c?region=r"),
    ],
)
def test_an_output_in_its_own_input_is_refused(rows: str, output: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("a")
    places = [
        place_of(text.replace("file://", f"file://{tmp_path}") if "://" in text else str(tmp_path / text))
        for text in (rows, output)
    ]
    with pytest.raises(InvalidInput, match="lie one in the other"):
        check_apart(*places)
    check_apart(places[0], replace(places[0], path=f"{places[0].path}-answers"))


@pytest.mark.parametrize("text", ["", "a\0b", "caf\udce9", "s3://\udcff/x"])
def test_a_place_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="expected a path in UTF-8, or a URI"):
        place_of(text)


def test_a_file_name_that_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")).touch()
    with pytest.raises(InvalidInput, match="no file names that are not UTF-8"):
        place_of(str(tmp_path)).files()


def test_an_unknown_place_is_named() -> None:
    with pytest.raises(InvalidInput, match="ftp://x/y is no place that pyarrow knows"):
        place_of("ftp://x/y")


def test_without_ray_the_way_to_install_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InvalidInput, match="--ray needs Ray .*; run `make setup`"):
        on_ray("local", 1)


def test_a_ray_that_knows_no_tokens_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(__version__="2.51.2"))
    with pytest.raises(InvalidInput, match="needs Ray 2.52 or later, got 2.51.2"):
        on_ray("local", 1)


def test_what_a_worker_of_ray_raises_is_said_in_one_line() -> None:
    exceptions = pytest.importorskip("ray.exceptions", reason="Ray is not installed: pip install --group ray")
    cause = RuntimeError("The function failed to import.\n\nTraceback:\nModuleNotFoundError: No module named 'x'")
    raised = exceptions.RayTaskError("do_part", "\x1b[36mray::do_part()\x1b[39m\nTraceback", cause)
    errors = iter([raised.as_instanceof_cause(), exceptions.RuntimeEnvSetupError("no space\nleft")])
    ray = SimpleNamespace(exceptions=exceptions, wait=lambda tasks, **_: (tasks[:1], []))
    ray.remote = lambda function: SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda *_: object()))

    def get(task: object) -> Any:
        raise next(errors)

    ray.get = get
    failed = list(_done(ray, Mock(), [Part(0, 0, []), Part(1, 0, [])], 1))
    assert [str(result.error).partition(";")[0] for result in failed if isinstance(result, Failure)] == [
        "part 0 cannot be done on the cluster: RuntimeError: ModuleNotFoundError: No module named 'x'",
        "part 1 cannot be done on the cluster: RuntimeEnvSetupError: left",
    ]
