"""Rows of large sets: folders of images and numpy's files, read in stretches, refused by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clients.batch.sources import array_source, image_source, open_source
from clients.contract import Array, Contract, TensorSpec
from clients.errors import InvalidInput


def contract(*inputs: TensorSpec, most: int = 4, **parameters: str) -> Contract:
    return Contract("m", ("2", "10"), most, inputs, (TensorSpec("Y", "FP32", (2,)),), parameters)


VECTOR = contract(TensorSpec("X", "FP32", (3,)))
PAIR = contract(TensorSpec("A", "FP32", (3,)), TensorSpec("B", "INT64", (1,)))
TEXT = contract(TensorSpec("T", "BYTES", (1,)))


def photo(path: Path, width: int = 6, height: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), "red").save(path)
    return path


def test_a_npy_is_mapped_and_cut_into_requests(tmp_path: Path) -> None:
    rows = np.arange(15, dtype=np.float32).reshape(5, 3)
    for order in ("C", "F"):
        np.save(tmp_path / "x.npy", np.asarray(rows, order=order))  # type: ignore[call-overload]
        source = array_source(tmp_path / "x.npy", VECTOR, tmp_path)
        assert source.rows == 5 and isinstance(source.arrays["X"].base, np.memmap)
        ((request,), errors) = source.load(range(1, 3))
        np.testing.assert_array_equal(request["X"], rows[1:3])
        assert errors == ["", ""]
        assert request["X"].flags["C_CONTIGUOUS"] and source.labels(range(1, 3)).tolist() == [1, 2]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_npz_is_mapped_by_input_name_and_leaves_nothing_behind(save: Any, tmp_path: Path) -> None:
    save(tmp_path / "x.npz", A=np.ones((2, 3), np.float32), B=np.array([[4], [5]]))
    source = array_source(tmp_path / "x.npz", PAIR, tmp_path)
    assert source.load(range(1, 2))[0][0]["B"].tolist() == [[5]]
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


def test_texts_become_objects_as_bytes_inputs_require(tmp_path: Path) -> None:
    for texts in (np.array([["a"], ["bc"]]), np.array([[b"a"], [b"bc"]])):
        np.save(tmp_path / "t.npy", texts)
        ((request,), _) = array_source(tmp_path / "t.npy", TEXT, tmp_path).load(range(2))
        assert request["T"].dtype == object and request["T"].tolist() == texts.tolist()


def test_a_model_without_batches_gets_rows_without_a_batch_dimension(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((2, 3), np.float32))
    bare = contract(*VECTOR.inputs, most=0)
    assert array_source(tmp_path / "x.npy", bare, tmp_path).load(range(1, 2))[0][0]["X"].shape == (3,)


@pytest.mark.parametrize(
    ("arrays", "wanted", "words"),
    [
        ({"A": np.ones((2, 3), "f4"), "B": np.ones((3, 1), "i8")}, PAIR, "same number of rows"),
        ({"A": np.ones((2, 3), "f4")}, PAIR, "input 'B' is missing"),
        ({"X": np.ones((2, 3), "f8")}, VECTOR, "x.npz, row 0: m input 'X': expected FP32, got FP64"),
        ({"X": np.ones((2, 4), "f4")}, VECTOR, "expected shape"),
        ({"X": np.ones((0, 3), "f4")}, VECTOR, "has no rows"),
        ({"X": np.float32(1)}, VECTOR, "has no rows"),
        ({"T": np.array([["a"]], object)}, TEXT, "save texts with dtype 'S' or 'U'"),
        ({}, VECTOR, "got none"),
    ],
)
def test_unsuitable_arrays_are_refused_before_anything_is_sent(
    arrays: dict[str, Array], wanted: Contract, words: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(InvalidInput, match=words):
        array_source(tmp_path / "x.npz", wanted, tmp_path)


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_a_damaged_file_is_refused_by_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"not numpy's")
    with pytest.raises(InvalidInput, match=f"{name} cannot be mapped as numpy arrays"):
        array_source(tmp_path / name, VECTOR, tmp_path)


def test_an_input_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("1,2")
    for name in ("x.csv", "missing.npy"):
        with pytest.raises(InvalidInput, match="expected a folder of images, a .npy or a .npz"):
            open_source(tmp_path / name, VECTOR, tmp_path)


def test_images_of_one_size_share_a_request_and_others_do_not(tmp_path: Path) -> None:
    pixels = contract(TensorSpec("P", "UINT8", (-1, -1, -1)))
    photo(tmp_path / "1.png"), photo(tmp_path / "2.png"), photo(tmp_path / "3.png", 8)
    (tmp_path / "4.png").write_text("text")
    source = image_source(tmp_path, pixels)
    assert [request["P"].shape for request in source.load(range(2))[0]] == [(2, 4, 6, 3)]
    requests, errors = source.load(range(1, 4))
    assert [request["P"].shape for request in requests] == [(1, 4, 6, 3), (1, 4, 8, 3)]
    assert errors[:2] == ["", ""] and "4.png is not an image" in errors[2]
    assert source.labels(range(2)).tolist() == ["1.png", "2.png"]


def test_pixels_have_the_size_and_the_channels_of_the_model(tmp_path: Path) -> None:
    photo(tmp_path / "1.png")
    for dims, expected in (((2, 3, 1), (1, 2, 3, 1)), ((-1, -1, 1), (1, 4, 6, 1)), ((5, 5, -1), (1, 5, 5, 3))):
        source = image_source(tmp_path, contract(TensorSpec("P", "UINT8", dims)))
        assert source.load(range(1))[0][0]["P"].shape == expected
    with pytest.raises(InvalidInput, match="with 1 or 3 channels"):
        image_source(tmp_path, contract(TensorSpec("P", "UINT8", (3, 32, 32))))


def test_a_model_of_bytes_gets_the_files_unchanged(tmp_path: Path) -> None:
    data = photo(tmp_path / "1.png").read_bytes()
    (tmp_path / "2.png").write_text("text")
    requests, errors = image_source(tmp_path, TEXT).load(range(2))
    assert requests[0]["T"].tolist() == [[data]] and [bool(error) for error in errors] == [False, True]


def test_a_folder_of_images_is_no_input_of_a_model_with_two_inputs(tmp_path: Path) -> None:
    photo(tmp_path / "1.png")
    with pytest.raises(InvalidInput, match="takes 2 inputs .* give a .npz"):
        image_source(tmp_path, PAIR)
    with pytest.raises(InvalidInput, match="does not declare an image input"):
        image_source(tmp_path, VECTOR)
