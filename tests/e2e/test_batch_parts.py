"""Large inferences into a folder of parts, by this process and by Ray's: every row once, whatever is killed."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
from pyarrow import dataset, parquet

from clients.batch.folder import run_parts
from clients.batch.parts import Output, Record
from clients.batch.places import place_of
from clients.batch.plan import Options
from clients.batch.work import Failure, Part, Work, do_part
from clients.client import Client
from clients.connection import Connection
from clients.contract import Array
from clients.errors import InvalidInput
from tests.conftest import Command, served
from tests.e2e import batch_models
from tests.e2e.batch_models import held
from tests.e2e.peers import nobody
from tests.raycluster.machines import workers
from tests.waiting import SOON_S, settled, soon
from tools.repository import ROOT
from tools.serve import tritonserver
from tools.serve.tritonserver import Server

MODEL, ROWS, PART = "mnist_mlp", 2000, 200
OPTIONS = ("--model", MODEL, "--outputs", "OUTPUT__0", "--part-rows", str(PART), "--json")

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install --group ray")


@pytest.fixture(scope="module")
def rows() -> Array:
    """Rows for the MLP."""
    return np.random.default_rng(0).normal(size=(ROWS, 784)).astype(np.float32)


@pytest.fixture(scope="module")
def tables(rows: Array, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rows as three Parquet files, in two folders, with row groups of different sizes."""
    folder = tmp_path_factory.mktemp("tables")
    for name, (start, stop), group in (("a/0", (0, 700), 100), ("a/1", (700, 750), 50), ("b/0", (750, ROWS), 900)):
        (folder / name).parent.mkdir(exist_ok=True)
        write(folder / f"{name}.parquet", list(rows[start:stop]), group)
    (folder / "_SUCCESS").touch()
    return folder


def write(path: Path, cells: list[Any], group: int | None = None, name: str = "INPUT__0") -> None:
    table = pa.table({"id": list(range(len(cells))), name: pa.array(cells, pa.list_(pa.float32()))})
    parquet.write_table(table, path, row_group_size=group)


def at(server: Server) -> dict[str, str]:
    return {**os.environ, "TRITON_HTTP_URL": server.http, "TRITON_GRPC_URL": server.grpc}


def last_line(result: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return document


def manifest_of(folder: Path) -> dict[str, Any]:
    """The manifest, after its sums are checked."""
    manifest: dict[str, Any] = json.loads((folder / "_manifest.json").read_text())
    for part in manifest["parts"]:
        content = (folder / part["file"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (part["bytes"], part["sha256"])
    return manifest


def inferences(server: Server) -> int:
    with Client(Connection("http", server.http)) as client:
        return sum(entry["inference_count"] for entry in client.statistics(MODEL))


def assert_every_row_once(folder: Path, rows: Array, server: Server) -> None:
    table = dataset.dataset(folder).to_table()
    assert table["row"].to_pylist() == list(range(len(rows)))
    assert set(table["error"].to_pylist()) == {None} and len(set(table["version"].to_pylist())) == 1
    with Client(Connection("http", server.http)) as client:
        expected = [client.infer(MODEL, rows[start : start + 50])["OUTPUT__0"] for start in range(0, len(rows), 50)]
    values = table["OUTPUT__0"].combine_chunks().flatten().to_numpy().reshape(len(rows), -1)
    np.testing.assert_allclose(values, np.concatenate(expected), rtol=1e-4, atol=1e-4)


@contextmanager
def running(source: Path, output: Path, server: Server, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A slow run of the small model, which does not outlive the block."""
    small = ("--model", "double", "--part-rows", str(PART), "--json", "--in-flight", "1", "--batch-size", "4")
    line = [sys.executable, "-m", "clients.batch", str(source), str(output), *small, *options]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # An ignored one would be inherited.
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(line, cwd=ROOT, env=at(server), **pipes)
    signal.signal(signal.SIGINT, before)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_parts(output: Path, count: int, process: subprocess.Popen[str]) -> None:
    def is_there() -> bool:
        return len(list(output.glob("_done/[0-9]*.json"))) >= count

    assert soon(lambda: is_there() or process.poll() is not None, 200, pause=0.005)
    assert process.poll() is None, process.communicate()


def test_tables_become_parts_with_a_manifest_and_a_lost_part_is_made_again(
    command: Command, server: Server, tables: Path, rows: Array, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    result = command("clients.batch", tables, output, *OPTIONS, server=server)
    assert result.returncode == 0, result.stderr
    assert last_line(result) | {"seconds": 0, "rows_per_s": 0} == {
        **{"rows": ROWS, "errors": 0, "seconds": 0, "rows_per_s": 0, "resumed_rows": 0, "output": str(output)},
    }
    assert_every_row_once(output, rows, server)
    manifest = manifest_of(output)
    # Whole requests of 64 rows.
    assert [part["rows"] for part in manifest["parts"]] == [256] * 7 + [ROWS - 7 * 256]
    names = {"_job.json", "_lock", "_manifest.json", *(part["file"] for part in manifest["parts"])}
    assert {path.name for path in output.iterdir()} == names
    (output / "part-00003.parquet").unlink()
    before = settled(lambda: inferences(server))
    again = command("clients.batch", tables, output, *OPTIONS, server=server)
    assert again.returncode == 0 and last_line(again)["resumed_rows"] == ROWS - 256, again.stderr
    assert settled(lambda: inferences(server)) - before == 256 and manifest_of(output)["rows"] == ROWS


def test_a_row_that_does_not_fit_has_the_reason_and_its_neighbors_have_answers(
    command: Command, server: Server, rows: Array, tmp_path: Path
) -> None:
    cells: list[Any] = list(rows[:300])
    cells[7], cells[70] = None, cells[70][:10]
    cells[256:] = [None] * 44  # a whole part
    write(tmp_path / "rows.parquet", cells)
    result = command("clients.batch", tmp_path / "rows.parquet", tmp_path / "out", *OPTIONS, server=server)
    assert result.returncode == 1 and last_line(result)["errors"] == 46, result.stderr
    assert "row 7: error: input 'INPUT__0': a list is missing" in result.stderr
    table = dataset.dataset(tmp_path / "out").to_table().to_pylist()
    assert [row["row"] for row in table if row["error"]] == [7, 70, *range(256, 300)]
    assert "expected INPUT__0 FP32 [784], got [10]" in table[70]["error"]
    assert all(row["OUTPUT__0"][0] is not None for row in table if not row["error"])


@needs_ray
def test_what_this_process_has_begun_ray_s_workers_finish_though_one_is_killed(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(ROWS, 2)).astype(np.float32)
    source, output = tmp_path / "rows.parquet", tmp_path / "out"
    models = batch_models.write(tmp_path / "models", ["double"])
    write(source, list(rows), name="X")
    with served(tritonserver.Options(models)) as server:
        with held(models, "double", 2 * PART + 40), running(source, output, server) as process:
            wait_for_parts(output, 2, process)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        assert process.returncode == 130 and "the same command resumes" in errors
        ray = ("--ray", "local", "--workers", "2")
        with held(models, "double", 2 * PART) as hold, running(source, output, server, *ray) as process:
            wait_for_parts(output, 3, process)
            started = psutil.Process(process.pid)
            children = started.children(recursive=True)
            assert soon(lambda: bool(workers(started))), "no worker is at work"
            workers(started)[0].kill()
            hold.unlink()
            printed, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    assert json.loads(printed)["resumed_rows"] == 2 * PART
    table = dataset.dataset(output).to_table()
    assert table["row"].to_pylist() == list(range(ROWS)) and set(table["error"].to_pylist()) == {None}
    assert np.array_equal(np.array(table["Y"].to_pylist(), np.float32), 2 * rows)
    assert [part["rows"] for part in manifest_of(output)["parts"]] == [PART] * (ROWS // PART)
    assert psutil.wait_procs(children, SOON_S)[1] == []


def parts_of(server: Server, source: Path, output: Path, fresh: bool = False) -> int:
    """Run it in this process; how many rows the manifest has."""
    run_parts([Connection("http", server.http)], MODEL, str(source), str(output), Options(fresh=fresh))
    return int(manifest_of(output)["rows"])


def test_parts_of_two_runs_are_not_mixed(server: Server, tables: Path, tmp_path: Path) -> None:
    one, two, output = tmp_path / "1.parquet", tmp_path / "2.parquet", tmp_path / "out"
    for number, path in enumerate((one, two), 1):
        write(path, [[0.0] * 784] * number)
    assert parts_of(server, one, output) == 1
    with pytest.raises(InvalidInput, match="has parts of another run: rows was 1, is 2.* --fresh"):
        parts_of(server, two, output)
    assert manifest_of(output)["rows"] == 1 and parts_of(server, two, output, fresh=True) == 2
    with pytest.raises(InvalidInput, match="has files of another origin, such as a/0.parquet"):
        parts_of(server, one, tables, fresh=True)
    assert len(list(tables.rglob("*.parquet"))) == 3


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([[0.0] * 10], "expected INPUT__0 FP32 [784], got [10]"),
        ([], "expected rows in Parquet files"),
    ],
)
def test_tables_that_do_not_fit_the_model_are_refused(
    cells: list[Any], words: str, server: Server, tmp_path: Path
) -> None:
    write(tmp_path / "rows.parquet", cells)
    with pytest.raises(InvalidInput, match=re.escape(words)):
        parts_of(server, tmp_path / "rows.parquet", tmp_path / "out")


def test_an_output_in_its_own_input_is_refused_before_it_is_read(server: Server, tables: Path) -> None:
    with pytest.raises(InvalidInput, match="lie one in the other"):
        parts_of(server, tables, tables / "out")
    assert not (tables / "out").exists()


def test_a_part_that_cannot_be_written_is_a_failure_that_names_the_place(
    server: Server, tables: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    failed: list[Record | Failure] = []

    def execute(work: Work, parts: Sequence[Part]) -> Generator[Record | Failure, None, None]:
        output = Output(place_of(str(tmp_path / "file" / "out")))
        failed.append(do_part(replace(work, output=output), parts[0]))
        yield failed[0]

    with pytest.raises(InvalidInput, match="file/out: Not a directory"):
        run_parts([Connection("http", server.http)], MODEL, str(tables), str(tmp_path / "out"), Options(), execute)
    assert isinstance(failed[0], Failure)


@pytest.mark.parametrize(
    ("source", "output", "words"),
    [
        ("a/0.parquet", "out.parquet", "a/0.parquet: the output of Parquet and of URIs is a folder"),
        ("a", "s3://key:secret@bucket/out.npz", "s3://bucket/out.npz: expected the name of a folder"),
    ],
)
def test_a_file_that_has_to_be_a_folder_is_named_with_the_way_out(
    source: str, output: str, words: str, command: Command, server: Server, tables: Path, tmp_path: Path
) -> None:
    output = output if "://" in output else str(tmp_path / output)
    result = command("clients.batch", tables / source, output, "--model", MODEL, server=server)
    assert result.returncode == 2 and words in result.stderr and "secret" not in result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--ray", "here"), "--ray here: expected HOST:PORT of a cluster's head"),
        (("--ray", nobody()), "no Ray cluster answers at 127.0.0.1:"),
        (("--workers", "2"), "--workers are those of --ray"),
    ],
    ids=["no address", "no cluster", "no Ray"],
)
def test_what_is_wrong_with_ray_s_options_is_said_at_once(
    options: tuple[str, str], words: str, command: Command, server: Server, tables: Path, tmp_path: Path
) -> None:
    result = command("clients.batch", tables, tmp_path / "out", "--model", MODEL, *options, server=server)
    assert result.returncode == 2 and words in result.stderr
    assert list(tmp_path.iterdir()) == []
