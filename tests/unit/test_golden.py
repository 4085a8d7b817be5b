"""Golden requests: what an answer is compared with, and files that are none."""

from pathlib import Path

import numpy as np
import pytest

from clients.contract import Array, Contract, TensorSpec
from clients.errors import InvalidInput
from clients.golden import Case, Golden, complaint, read
from clients.golden import write as write_file
from tools.export.golden import write
from tools.serve.probes import golden_of, zeros
from tools.testing.served_model import _are_same

TEXT = np.array([["zwölf".encode()]], np.object_)
SCORES = np.array([[1.0, 2.0]], np.float32)


def answer(inputs: dict[str, Array]) -> dict[str, Array]:
    if inputs["NUMBER"][0, 0] < 0:
        raise ValueError("no negative numbers")
    return {"SCORES": inputs["NUMBER"] * SCORES, "TEXT": inputs["TEXT"]}


def test_what_is_written_is_read_as_it_is_sent_and_what_the_network_refuses_is_left_out(tmp_path: Path) -> None:
    requests = [{"NUMBER": np.array([[n]], np.float32), "TEXT": TEXT} for n in (1, -1, 2)]
    write(tmp_path, answer, requests, 1e-5)
    golden = read(tmp_path / "golden.npz")
    assert golden and golden.tolerance == 1e-3 and len(golden.cases) == 2
    for case, number in zip(golden.cases, (1, 2), strict=True):
        assert case.inputs["TEXT"].tolist() == TEXT.tolist() and case.inputs["TEXT"].dtype == np.object_
        assert complaint(case, {"SCORES": number * SCORES, "TEXT": TEXT}, golden.tolerance) == ""
    write(tmp_path / "none", answer, requests[1:2], 1e-5)
    assert read(tmp_path / "none" / "golden.npz") is None


def test_tensors_are_read_in_the_order_in_which_they_were_written_and_are_the_same_in_any(tmp_path: Path) -> None:
    inputs = {name: np.full(1, ord(name)) for name in "fbdace"}
    write_file(tmp_path / "golden.npz", Golden(1e-3, (Case(inputs, {"Y": SCORES}),)))
    golden = read(tmp_path / "golden.npz")
    assert golden and list(golden.cases[0].inputs) == list(inputs)
    assert _are_same([dict(sorted(inputs.items()))], [golden.cases[0].inputs])
    assert not _are_same([{**inputs, "f": np.zeros(1, int)}], [golden.cases[0].inputs])


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ({"SCORES": SCORES, "LABEL": TEXT}, ""),
        ({"SCORES": SCORES + 1e-4, "LABEL": TEXT}, ""),
        ({"SCORES": SCORES + 0.5, "LABEL": TEXT}, "SCORES differs by 0.5; allowed is 0.001 absolute and relative"),
        ({"SCORES": SCORES * np.nan, "LABEL": TEXT}, "SCORES differs by inf"),
        ({"SCORES": SCORES, "LABEL": np.array([[b"eleven"]], np.object_)}, "LABEL differs"),
        ({"SCORES": SCORES.astype(np.float64), "LABEL": TEXT}, "SCORES is float64 [1, 2]; expected float32 [1, 2]"),
        ({"SCORES": SCORES[0], "LABEL": TEXT}, "SCORES is float32 [2]; expected float32 [1, 2]"),
        ({"SCORES": SCORES}, "LABEL is missing; expected object [1, 1]"),
    ],
)
def test_a_wrong_answer_is_told_from_one_that_is_rounded(outputs: dict[str, Array], words: str) -> None:
    found = complaint(Case({}, {"SCORES": SCORES, "LABEL": TEXT}), outputs, 1e-3)
    assert found.startswith(words) and bool(found) == bool(words)


def test_answers_without_rows_and_without_numbers_are_compared_too() -> None:
    for expected in (np.zeros((0, 4), np.float32), np.float32(3), np.array([7, 8])):
        assert complaint(Case({}, {"Y": np.asarray(expected)}), {"Y": np.asarray(expected)}, 1e-3) == ""
    assert "differs" in complaint(Case({}, {"Y": np.array([7, 8])}), {"Y": np.array([7, 9])}, 1e-3)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 half an archive"])
def test_a_damaged_file_is_named_with_the_remedy(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "golden.npz").write_bytes(content)
    with pytest.raises(InvalidInput, match="golden.npz cannot be read .*; export the model again"):
        read(tmp_path / "golden.npz")


def test_a_version_without_the_file_is_asked_zeros_and_any_answer_will_do(tmp_path: Path) -> None:
    (tmp_path / "old" / "1").mkdir(parents=True)
    assert golden_of("old", {"old": 1}, tmp_path) is None
    specs = (TensorSpec("X", "FP32", (-1, 3)), TensorSpec("TEXT", "BYTES", (2,)), TensorSpec("Z", "INT8", (1,), True))
    (case,) = zeros(Contract("old", ("1",), 4, specs, ())).cases
    assert case.inputs["X"].shape == (1, 1, 3) and case.inputs["TEXT"].tolist() == [[b"", b""]]
    assert "Z" not in case.inputs and complaint(case, {"anything": SCORES}, 0.0) == ""


def test_an_ensemble_is_compared_only_with_answers_of_the_members_that_are_served(tmp_path: Path) -> None:
    folder = tmp_path / "both" / "1"
    folder.mkdir(parents=True)
    write(folder, answer, [{"NUMBER": SCORES, "TEXT": TEXT}], 1e-5)
    (folder / "manifest.json").write_text('{"steps": {"first": 3}}')
    assert golden_of("both", {"both": 1, "first": 3}, tmp_path)
    assert golden_of("both", {"both": 1, "first": 4}, tmp_path) is None
