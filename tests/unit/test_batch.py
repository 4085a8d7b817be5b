"""Large inferences without a server: plans, answers put in order, the store of finished chunks."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clients.batch.chunks import Chunk, concatenate, join, storable
from clients.batch.job import partial_folder
from clients.batch.plan import IN_FLIGHT, Options, Plan, job_of, make_plan
from clients.batch.requests import first_good_row
from clients.batch.sources import array_source, image_source
from clients.batch.store import difference, open_store, version_begun
from clients.contract import Contract, TensorSpec
from clients.errors import InvalidInput
from tools.repository import ROOT

JOB = {"model": "m", "model_version": "1", "batch_size": 2, "input": {"sha256": "00"}}
CHUNKS = [range(0, 2), range(2, 4), range(4, 5)]


def contract(*inputs: TensorSpec, most: int = 4, **parameters: str) -> Contract:
    return Contract("m", ("2", "10"), most, inputs, (TensorSpec("Y", "FP32", (2,)),), parameters)


VECTOR = contract(TensorSpec("X", "FP32", (3,)))


def chunk(*values: float | None) -> Chunk:
    """Rows with one number, or an error in place of it."""
    errors = np.array(["" if value is not None else "no good" for value in values])
    good = [[value, -value] for value in values if value is not None]
    return Chunk(errors, {"Y": np.array(good, np.float32)} if good else {}, np.ones(len(errors), np.int64))


def planned(
    tmp_path: Path, wanted: Contract = VECTOR, rows: int = 10, begun: str | None = None, **options: Any
) -> Plan:
    np.save(tmp_path / "x.npy", np.ones((rows, 3), np.float32))
    source = array_source(tmp_path / "x.npy", wanted, tmp_path)
    return make_plan(wanted, source, Options(**options), begun)


def test_a_plan_asks_the_newest_version_in_batches_that_the_model_takes(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    assert (plan.version, plan.batch_size, plan.outputs, plan.in_flight) == ("10", 4, ("Y",), IN_FLIGHT)
    assert planned(tmp_path, batch_size=9).batch_size == 4 and planned(tmp_path, batch_size=3).batch_size == 3
    assert planned(tmp_path, contract(*VECTOR.inputs, most=0), batch_size=9).batch_size == 1
    assert planned(tmp_path, in_flight=100).in_flight == 100


def test_fewer_large_requests_are_under_way_at_once(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((1, 3, 512, 512), np.float32))
    large = contract(TensorSpec("X", "FP32", (3, 512, 512)), most=16)
    assert make_plan(large, array_source(tmp_path / "x.npy", large, tmp_path), Options()).in_flight == 5


def test_unusable_outputs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="has no output 'Z'; it gives Y"):
        planned(tmp_path, outputs=["Y", "Z"])
    named = Contract("m", ("1",), 4, VECTOR.inputs, (TensorSpec("error", "FP32", (2,)),))
    with pytest.raises(InvalidInput, match="'error' has the name of another column"):
        planned(tmp_path, named)
    named = Contract("m", ("1",), 4, VECTOR.inputs, (TensorSpec("version", "FP32", (2,)),))
    assert planned(tmp_path, named).outputs == ("version",)
    with pytest.raises(InvalidInput, match="'version' has the name of another column"):
        planned(tmp_path, named, mixed_versions=True)


def test_a_run_keeps_the_version_with_which_it_began(tmp_path: Path, begun: Path) -> None:
    assert planned(tmp_path, begun=version_begun(begun)).version == "1"
    assert version_begun(tmp_path) is None


def test_chunks_are_whole_requests_and_contain_every_row_once(tmp_path: Path) -> None:
    plan = planned(tmp_path, rows=1000, batch_size=3)
    assert plan.chunk_rows == 258 and [len(rows) for rows in plan.chunks()] == [258, 258, 258, 226]
    assert [plan.chunk(index) for index in range(4)] == plan.chunks()
    assert [row for rows in plan.chunks() for row in rows] == list(range(1000))


def test_a_job_is_the_same_if_the_input_is(tmp_path: Path) -> None:
    plan, jobs = planned(tmp_path), []
    for value in (1, 1, 2):
        np.save(tmp_path / "x.npy", np.full((10, 3), value, np.float32))
        jobs.append(json.loads(json.dumps(job_of(plan, array_source(tmp_path / "x.npy", VECTOR, tmp_path)))))
    assert jobs[0] == jobs[1] and difference(jobs[0], jobs[2]) == "INPUT's content has changed"


def test_a_chunk_is_in_row_order_whatever_the_order_of_its_answers() -> None:
    late = Chunk(np.array(["", "", "bad"]), {"Y": np.array([[4.0], [5.0]])}, np.array([2, 2, 2]))
    early = Chunk(np.array(["worse", ""]), {"Y": np.array([[1.0]])}, np.array([1, 1]))
    made = join({4: late, 2: early}, ["Y"])
    assert made.errors.tolist() == ["worse", "", "", "", "bad"] and made.outputs["Y"].tolist() == [[1], [4], [5]]
    assert made.versions.tolist() == [1, 1, 2, 2, 2]


def test_rows_of_different_shapes_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"float64 \[2\] and float64 \[3\], which make no column"):
        concatenate([{"Y": np.ones((1, 2))}, {}, {"Y": np.ones((1, 3))}], ["Y"])
    assert concatenate([{}, {}], ["Y"]) == {}


def test_texts_become_str_even_if_they_are_no_utf_8() -> None:
    texts = storable(np.array([["ö".encode()], [b"\xff"]], object))
    assert texts.dtype.kind == "U" and texts.tolist() == [["ö"], ["\\xff"]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return partial_folder(tmp_path / "out.npz")


@pytest.fixture
def begun(folder: Path) -> Path:
    """A folder with two of three chunks."""
    with open_store(folder, JOB, CHUNKS) as store:
        store.add(0, chunk(1, None))
        store.add(2, chunk(5))
    return folder


def test_finished_chunks_are_found_again(begun: Path) -> None:
    with open_store(begun, JOB, CHUNKS) as store:
        assert {index: (chunk.rows, chunk.errors, chunk.first_good) for index, chunk in store.finished.items()} == {
            0: (2, 1, 0),
            2: (1, 0, 0),
        }
        assert store.read(0).errors.tolist() == ["", "no good"] and store.read(0).outputs["Y"].tolist() == [[1, -1]]


def test_a_folder_that_an_earlier_version_wrote_is_resumed_and_removed(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((3, 3), np.float32))
    source = array_source(tmp_path / "x.npy", VECTOR, tmp_path)
    digest = hashlib.sha256((tmp_path / "x.npy").read_bytes()).hexdigest()
    folder.mkdir()
    (folder / "job.json").write_text(
        '{"model": "m", "model_version": "10", "outputs": ["Y"], "batch_size": 4, "chunk_rows": 256, "rows": 3, '
        f'"input": {{"sha256": "{digest}"}}}}'
    )
    np.savez(folder / "00000000.npz", **{"errors": np.array(["", "bad", ""]), "output/Y": np.ones((2, 2), np.float32)})
    for leftover in ("lock", ".staged-1", ".staged-job.json", ".staged-out.npz"):
        (folder / leftover).touch()
    plan = make_plan(VECTOR, source, Options())
    with open_store(folder, job_of(plan, source, chunk_rows=plan.chunk_rows), plan.chunks()) as store:
        assert (store.rows, store.errors, store.heads["Y"].tolist()) == (3, 1, [[1, 1]])
        store.remove()
    assert not folder.exists()


def test_an_image_s_identity_is_its_name_size_and_time_as_earlier_versions_wrote_it(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "a" / "1.png")
    pixels = contract(TensorSpec("P", "UINT8", (-1, -1, 3)))
    state = (tmp_path / "a" / "1.png").stat()
    assert image_source(tmp_path, pixels).identity == {"files": [["a/1.png", state.st_size, state.st_mtime_ns]]}


def test_the_first_good_row_of_earlier_runs_is_remembered(folder: Path) -> None:
    plan = Plan("m", "1", ("Y",), 600, 256, 1)
    with open_store(folder, JOB, plan.chunks()) as store:
        assert first_good_row(plan, store) is None
        store.add(1, chunk(*[None] * 255, 1))
        assert first_good_row(plan, store) == 256 + 255


@pytest.mark.parametrize("damage", [b"", b"PK", None])
def test_a_damaged_or_short_chunk_is_computed_again(damage: bytes | None, begun: Path) -> None:
    path = begun / "00000000.npz"
    path.write_bytes(damage if damage is not None else path.read_bytes()[:-30])
    with open_store(begun, JOB, [range(0, 2), range(2, 4), range(4, 6)]) as store:
        assert not store.finished


def test_a_file_left_half_written_by_a_killed_run_is_no_chunk(begun: Path) -> None:
    (begun / ".staged-1").write_bytes((begun / "00000000.npz").read_bytes())
    with open_store(begun, JOB, CHUNKS) as store:
        assert store.finished.keys() == {0, 2}
        store.remove()
    assert not begun.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "n"}, "model was m, is n"),
        ({"model_version": "2"}, "model version was 1, is 2"),
        ({"batch_size": 4}, "batch size was 2, is 4"),
        ({"input": {"sha256": "11"}}, "INPUT's content has changed"),
        ({"input": {"files": []}}, "INPUT's content has changed"),
    ],
)
def test_chunks_of_another_job_are_refused_with_the_difference(change: dict[str, Any], words: str, begun: Path) -> None:
    with (
        pytest.raises(InvalidInput, match=f"{words}; .*--fresh"),
        open_store(begun, {**JOB, **change}, CHUNKS),
    ):
        pass
    assert len(list(begun.glob("0*.npz"))) == 2


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ([["a", 1, 5], ["b", 2, 5], ["c", 3, 5]], "file c of INPUT is new"),
        ([["b", 2, 5]], "file a of INPUT is gone"),
        ([["a", 1, 5], ["b", 2, 6]], "file b of INPUT has changed"),
        ([["b", 2, 5], ["a", 1, 5]], "INPUT's order has changed"),
    ],
)
def test_the_message_names_the_file_that_differs(now: list[Any], words: str) -> None:
    assert difference({"input": {"files": [["a", 1, 5], ["b", 2, 5]]}}, {"input": {"files": now}}) == words


def test_fresh_forgets_the_chunks_and_leaves_other_files_alone(begun: Path) -> None:
    (begun / "notes.txt").write_text("mine")
    with open_store(begun, {**JOB, "model": "n"}, CHUNKS, fresh=True) as store:
        assert not store.finished
        store.remove()
    assert [path.name for path in begun.iterdir()] == ["notes.txt"]


def test_a_folder_without_chunks_can_be_reused_by_any_job(folder: Path) -> None:
    with open_store(folder, JOB, CHUNKS):
        pass
    with open_store(folder, {**JOB, "model": "n"}, CHUNKS) as store:
        assert not store.finished


def test_a_second_run_with_the_same_output_is_refused(begun: Path) -> None:
    with (
        open_store(begun, JOB, CHUNKS),
        pytest.raises(InvalidInput, match="another run uses"),
        open_store(begun, JOB, CHUNKS, fresh=True),
    ):
        pass
    assert (begun / "00000000.npz").exists()


def test_a_store_refuses_rows_of_another_shape(begun: Path) -> None:
    with open_store(begun, JOB, CHUNKS) as store:
        with pytest.raises(InvalidInput, match="rows of different kinds"):
            store.add(1, Chunk(np.array([""]), {"Y": np.ones((1, 3), np.float32)}, np.array([1])))
        assert 1 not in store.finished


def test_the_command_starts_without_pyarrow() -> None:
    program = "import sys, clients.batch.__main__; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0
