"""Large inferences on the real server, over both protocols: the same rows, in order, whatever happens."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from clients.client import Client
from clients.connection import Connection, Protocol
from clients.contract import Array
from clients.images import image_files, image_spec, load_image, normalise
from tests.conftest import Command, connection_to, served
from tests.e2e import batch_models
from tests.e2e.batch_models import held
from tests.e2e.peers import nobody
from tests.waiting import settled, soon
from tools.repository import ROOT
from tools.serve.tritonserver import Options, Server

SAMPLES = ROOT / "build" / "samples"
MODEL, ROWS, FEWER, CHUNK = "mnist_mlp", 4000, 2000, 256
# Where a run is held: behind its second chunk, within the third.
HELD = 2 * CHUNK + 40
# One small request at a time: always the same batches, so the same bits.
SLOWLY = ("--in-flight", "1", "--batch-size", "4")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rows_file(tmp_path_factory.mktemp("input"), ROWS, 784)


def rows_file(folder: Path, rows: int, length: int) -> Path:
    """A .npy of random rows."""
    path = folder / "rows.npy"
    np.save(path, np.random.default_rng(0).normal(size=(rows, length)).astype(np.float32))
    return path


@pytest.fixture(scope="module")
def small_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return batch_models.write(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def small(small_repository: Path) -> Iterator[Server]:
    """A server of models that take bytes, pixels and pairs."""
    with served(Options(small_repository)) as server:
        yield server


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rows_file(tmp_path_factory.mktemp("input"), FEWER, 2)


@pytest.fixture(scope="module")
def whole(few: Path, small: Server) -> Path:
    """The output of a run over them that nothing interrupted."""
    output = few.with_name("whole.npz")
    line = [*command_line(few, output, "double"), *SLOWLY]
    subprocess.run(line, cwd=ROOT, env=at(small), check=True, capture_output=True)
    return output


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five images of different sizes in two folders, and a text that is called like an image."""
    folder = tmp_path / "photos"
    for number, name in enumerate(("a/1.png", "a/2.png", "b/1.png", "b/2.png", "b/3.png")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (10 + number, 20 + number, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / "a" / "3.png").write_text("no image at all")
    return folder


def at(server: Server) -> dict[str, str]:
    return {**os.environ, "TRITON_HTTP_URL": server.http, "TRITON_GRPC_URL": server.grpc}


def command_line(source: Path, output: Path, model: str = MODEL) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "clients.batch", str(source), str(output), "--model", model, "--json"]


def arrays(path: Path) -> dict[str, Array]:
    with np.load(path) as archive:
        return {name: archive[name] for name in archive.files}


def last_line(result: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return document


def inferences(server: Server, model: str = MODEL) -> int:
    """Rows that the server has answered so far."""
    with Client(Connection("http", server.http)) as client:
        return sum(entry["inference_count"] for entry in client.statistics(model))


def finished(output: Path) -> int:
    """Chunks that are finished."""
    return len(list(Path(f"{output}.partial").glob("0*.npz")))


@contextmanager
def running(command: list[str], output: Path, server: Server) -> Iterator[subprocess.Popen[str]]:
    """A run that has finished two chunks and is held; it does not outlive the block."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # An ignored one would be inherited.
    process = subprocess.Popen(
        command, cwd=ROOT, env=at(server), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    signal.signal(signal.SIGINT, before)
    try:
        assert soon(lambda: finished(output) >= 2 or process.poll() is not None, 60)
        assert process.poll() is None, process.communicate()
        yield process
    finally:
        process.kill()
        process.communicate()


def interrupt(source: Path, output: Path, server: Server, how: signal.Signals, *options: str) -> tuple[int, str, str]:
    """Begin a run and end it midway; its exit code, and what it has said."""
    line = [*command_line(source, output, "double"), *SLOWLY, *options]
    with held(server.options.repository, "double", HELD), running(line, output, server) as process:
        process.send_signal(how)
        printed, errors = process.communicate(timeout=60)
    assert finished(output) == 2 and not output.exists()
    return process.returncode, printed, errors


def test_rows_equal_those_of_a_client_in_the_input_s_order(
    command: Command, server: Server, client: Client, protocol: Protocol, tmp_path: Path
) -> None:
    folder, output = SAMPLES / "cifar10_cnn", tmp_path / "out.npz"
    options = ("--protocol", protocol, "--batch-size", "3", "--in-flight", "7", "--model", "cifar10_cnn")
    result = command("clients.batch", folder, output, *options, server=server)
    assert result.returncode == 0, result.stderr
    files = image_files([folder])
    spec = image_spec(client.contract("cifar10_cnn"))
    output_arrays = arrays(output)
    assert output_arrays["file"].tolist() == [file.relative_to(folder).as_posix() for file in files]
    for file, row in zip(files, output_arrays["OUTPUT__0"], strict=True):
        expected = client.infer("cifar10_cnn", normalise(load_image(file, spec)[None], spec))["OUTPUT__0"][0]
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-4)
    assert set(output_arrays["error"]) == {""}


def test_many_requests_under_way_keep_the_order(
    command: Command, server: Server, client: Client, protocol: Protocol, many: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.npz"
    result = command("clients.batch", many, output, "--model", MODEL, "--protocol", protocol, "--json", server=server)
    assert result.returncode == 0, result.stderr
    document = last_line(result)
    assert document.keys() == {"rows", "errors", "seconds", "rows_per_s", "resumed_rows", "output"}
    assert (document["rows"], document["errors"], document["resumed_rows"]) == (ROWS, 0, 0)
    assert f"{ROWS:,} of {ROWS:,} rows" in result.stderr
    output_arrays, rows = arrays(output), np.load(many)
    expected = [client.infer(MODEL, rows[start : start + 50])["OUTPUT__0"] for start in range(0, ROWS, 50)]
    np.testing.assert_allclose(output_arrays["OUTPUT__0"], np.concatenate(expected), rtol=1e-4, atol=1e-4)
    assert output_arrays["row"].tolist() == list(range(ROWS))
    assert not Path(f"{output}.partial").exists()


@pytest.mark.parametrize(
    ("how", "protocol"),
    [
        (signal.SIGKILL, "http"),
        (signal.SIGKILL, "grpc"),
        (signal.SIGINT, "http"),
        (signal.SIGINT, "grpc"),
        (signal.SIGTERM, "grpc"),
    ],
)
def test_an_interrupted_run_resumes_without_repeating_or_losing_a_row(
    how: signal.Signals,
    protocol: Protocol,
    command: Command,
    small: Server,
    few: Path,
    whole: Path,
    tmp_path: Path,
) -> None:
    output = tmp_path / "out.npz"
    code, _, _ = interrupt(few, output, small, how, "--protocol", protocol)
    assert code == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    # The request that was under way is answered, though nobody waits for it.
    resumed, before = finished(output) * CHUNK, settled(lambda: inferences(small, "double"))
    options = ("--model", "double", "--protocol", protocol, "--json", *SLOWLY)
    result = command("clients.batch", few, output, *options, server=small)
    assert result.returncode == 0, result.stderr
    assert last_line(result)["resumed_rows"] == resumed
    assert settled(lambda: inferences(small, "double")) - before == FEWER - resumed
    assert output.read_bytes() == whole.read_bytes()
    assert not Path(f"{output}.partial").exists()


def test_an_interruption_says_what_is_kept_and_how_to_continue(small: Server, few: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.npz"
    _, printed, errors = interrupt(few, output, small, signal.SIGINT)
    assert printed == "" and "Traceback" not in errors
    assert f"{2 * CHUNK} of {FEWER} rows are kept in {output}.partial; the same command resumes" in errors
    assert errors.endswith("interrupted; finished rows are kept\n")


def test_rows_of_two_runs_are_not_mixed(command: Command, small: Server, few: Path, tmp_path: Path) -> None:
    source, output = Path(shutil.copy(few, tmp_path)), tmp_path / "out.npz"
    interrupt(source, output, small, signal.SIGKILL)
    line = ("clients.batch", source, output, "--model", "double")
    refused = command(*line, "--batch-size", "8", server=small)
    assert refused.returncode == 2 and "batch size was 4, is 8" in refused.stderr and "--fresh" in refused.stderr
    np.save(source, np.zeros((FEWER, 2), np.float32))
    refused = command(*line, *SLOWLY, server=small)
    assert refused.returncode == 2 and "INPUT's content has changed" in refused.stderr
    fresh = command(*line, "--fresh", "--json", server=small)
    assert fresh.returncode == 0 and last_line(fresh)["resumed_rows"] == 0
    assert not arrays(output)["Y"].any()


def test_parquet_and_npz_have_the_same_content(command: Command, small: Server, photos: Path, tmp_path: Path) -> None:
    for suffix in ("npz", "parquet"):
        options = ("--model", "from_bytes", "--json")
        result = command("clients.batch", photos, tmp_path / f"out.{suffix}", *options, server=small)
        assert result.returncode == 1 and last_line(result)["errors"] == 1, result.stderr
    output_arrays = arrays(tmp_path / "out.npz")
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pydict()
    assert list(table) == list(output_arrays) == ["file", "SIZE", "LABEL", "error"]
    good = [position for position, error in enumerate(table["error"]) if error is None]
    assert good == np.flatnonzero(output_arrays["error"] == "").tolist() == [0, 1, 3, 4, 5]
    assert table["file"] == output_arrays["file"].tolist()
    assert table["error"][2] == output_arrays["error"][2]
    for position in good:
        assert table["SIZE"][position] == output_arrays["SIZE"][position].tolist()
        assert table["LABEL"][position] == output_arrays["LABEL"][position, 0] == f"{table['SIZE'][position][0]} wide"
    assert table["SIZE"][2] == [None, None] and table["LABEL"][2] is None


def test_a_file_that_is_no_image_gets_a_row_with_the_reason(
    command: Command, server: Server, protocol: Protocol, photos: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.npz"
    result = command("clients.batch", photos, output, "--model", MODEL, "--protocol", protocol, server=server)
    assert result.returncode == 1
    assert "6 rows (0 of an earlier run, 1 with an error)" in result.stdout
    assert "file a/3.png: error: " in result.stderr
    output_arrays = arrays(output)
    assert [bool(error) for error in output_arrays["error"]] == [False, False, True, False, False, False]
    assert "3.png is not an image that can be read" in output_arrays["error"][2]
    assert np.isnan(output_arrays["OUTPUT__0"]).all(axis=1).tolist() == [False, False, True, False, False, False]


def test_a_row_that_the_server_refuses_does_not_fail_its_neighbors(
    command: Command, small: Server, protocol: Protocol, photos: Path, tmp_path: Path
) -> None:
    damaged, output = photos / "a" / "2.png", tmp_path / "out.npz"
    damaged.write_bytes(damaged.read_bytes()[:200])
    result = command("clients.batch", photos, output, "--model", "from_bytes", "--protocol", protocol, server=small)
    assert result.returncode == 1, result.stderr
    output_arrays = arrays(output)
    assert [bool(error) for error in output_arrays["error"]] == [False, True, True, False, False, False]
    assert "cannot: " in output_arrays["error"][1]
    assert output_arrays["SIZE"].tolist() == [[20, 10], [0, 0], [0, 0], [22, 12], [23, 13], [24, 14]]


def test_a_model_that_fails_on_every_row_is_an_error_of_the_model(
    command: Command, small: Server, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.ones((20, 2), np.float32))
    result = command("clients.batch", tmp_path / "x.npy", tmp_path / "y.npz", "--model", "broken", server=small)
    assert result.returncode == 2 and "cannot: unsupported operand" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.npy"]


@pytest.mark.parametrize("model", ["from_pixels", "small_pixels"])
def test_a_model_of_pixels_gets_them_at_its_own_size_or_at_the_image_s(
    model: str, command: Command, small: Server, protocol: Protocol, photos: Path, tmp_path: Path
) -> None:
    (photos / "a" / "3.png").unlink()
    output = tmp_path / "out.npz"
    result = command("clients.batch", photos, output, "--model", model, "--protocol", protocol, server=small)
    assert result.returncode == 0, result.stderr
    images = [Image.open(file) for file in image_files([photos])]
    if model == "small_pixels":
        images = [image.resize((5, 4), Image.Resampling.BILINEAR) for image in images]
    expected = [np.asarray(image).mean((0, 1)) for image in images]
    np.testing.assert_allclose(arrays(output)["MEAN"], expected, rtol=1e-5)


def test_a_model_of_two_inputs_without_batches_takes_a_npz_row_by_row(
    command: Command, small: Server, protocol: Protocol, tmp_path: Path
) -> None:
    first, second = np.random.default_rng(1).normal(size=(2, 300, 2)).astype(np.float32)
    np.savez_compressed(tmp_path / "in.npz", A=first, B=second)
    options = ("--model", "pair", "--outputs", "PRODUCT", "--protocol", protocol)
    result = command("clients.batch", tmp_path / "in.npz", tmp_path / "out.npz", *options, server=small)
    assert result.returncode == 0, result.stderr
    output_arrays = arrays(tmp_path / "out.npz")
    assert list(output_arrays) == ["row", "PRODUCT", "error"]
    np.testing.assert_array_equal(output_arrays["PRODUCT"], first * second)


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_rows_of_different_shapes_are_refused(suffix: str, command: Command, small: Server, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(8, dtype=np.float32).reshape(4, 2))
    options = ("--model", "uneven", "--batch-size", "1")
    result = command("clients.batch", tmp_path / "x.npy", tmp_path / f"y.{suffix}", *options, server=small)
    assert result.returncode == 2 and "output 'Y' has rows of different kinds" in result.stderr


def test_without_a_server_the_exit_code_is_two(
    command: Command, protocol: Protocol, many: Path, tmp_path: Path
) -> None:
    options = ("--model", MODEL, "--protocol", protocol, "--url", nobody(), "--retries", "1")
    result = command("clients.batch", many, tmp_path / "out.npz", *options)
    assert result.returncode == 2 and "no server answers at" in result.stderr
    assert list(tmp_path.iterdir()) == []


@contextmanager
def killed_and_back(server: Server, options: Options) -> Iterator[Server]:
    """Another server on the ports of one that is killed."""
    server.kill()
    assert soon(lambda: not server.is_running)
    ports = {f"{name}_port": int(getattr(server, name).split(":")[1]) for name in ("http", "grpc", "metrics")}
    with served(Options(options.repository, **ports)) as again:
        yield again


@pytest.fixture
def doubling(tmp_path: Path) -> Path:
    """A repository with one small model, for a server of a test's own."""
    return batch_models.write(tmp_path / "repository", ["double"])


def test_a_server_that_restarts_is_waited_for(protocol: Protocol, doubling: Path, tmp_path: Path) -> None:
    rows = np.random.default_rng(2).normal(size=(FEWER, 2)).astype(np.float32)
    np.save(tmp_path / "x.npy", rows)
    output, options = tmp_path / "y.npz", Options(doubling)
    line = [*command_line(tmp_path / "x.npy", output, "double"), "--protocol", protocol, "--retries", "30"]
    with (
        served(options) as server,
        held(doubling, "double", HELD) as hold,
        running([*line, "--in-flight", "2", "--batch-size", "2"], output, server) as process,
        killed_and_back(server, options),
    ):
        assert finished(output) == 2
        hold.unlink()
        printed, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert json.loads(printed)["rows"] == FEWER
    np.testing.assert_array_equal(arrays(output)["Y"], rows * 2)


def test_requests_go_to_all_servers_and_past_one_that_is_killed(
    protocol: Protocol, doubling: Path, tmp_path: Path
) -> None:
    rows = np.random.default_rng(2).normal(size=(FEWER, 2)).astype(np.float32)
    np.save(tmp_path / "x.npy", rows)
    output, options = tmp_path / "y.npz", Options(doubling)
    line = [*command_line(tmp_path / "x.npy", output, "double"), "--protocol", protocol, "--batch-size", "2"]
    with served(options) as server, served(options) as other:
        more = ("--in-flight", "4", "--more-urls", other.address(protocol))
        with held(doubling, "double", HELD) as hold, running([*line, *more], output, server) as process:
            asked = [inferences(each, "double") for each in (server, other)]
            other.kill()
            hold.unlink()
            printed, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert json.loads(printed)["rows"] == FEWER and min(asked) > 0
    np.testing.assert_array_equal(arrays(output)["Y"], rows * 2)


def test_servers_of_different_models_are_refused(
    command: Command, server: Server, small: Server, many: Path, tmp_path: Path
) -> None:
    options = ("--model", "double", "--url", small.http, "--more-urls", server.http)
    result = command("clients.batch", many, tmp_path / "y.npz", *options)
    assert result.returncode == 2 and "unknown model" in result.stderr


def test_a_part_of_which_all_rows_are_refused_has_the_reasons_where_the_model_is_well(
    command: Command, small: Server, photos: Path, tmp_path: Path
) -> None:
    picture = (photos / "a" / "1.png").read_bytes()
    table = pyarrow.table({"IMAGE": [b"no image"] * 8 + [picture] * 4})
    pyarrow.parquet.write_table(table, tmp_path / "in.parquet")
    line = ("clients.batch", tmp_path / "in.parquet", tmp_path / "out", "--model", "from_bytes", "--part-rows", "8")
    result = command(*line, server=small)
    assert result.returncode == 1 and "12 rows (0 of an earlier run, 8 with an error)" in result.stdout, result.stderr
    rows = pyarrow.parquet.read_table(tmp_path / "out").to_pylist()
    assert [bool(row["error"]) for row in rows] == [True] * 8 + [False] * 4
    assert "cannot: " in rows[0]["error"] and rows[-1]["LABEL"] == "20 wide"
    pyarrow.parquet.write_table(table.slice(0, 8), tmp_path / "in.parquet")
    refused = command(*line, "--fresh", server=small)
    assert refused.returncode == 2 and "cannot: " in refused.stderr


def add_version(repository: Path, number: int, factor: int) -> None:
    """Add a version of the small model that multiplies by another factor."""
    first, folder = repository / "double" / "1", repository / "double" / str(number)
    # Code of the same length that is written in the same second would be taken for what Python has compiled already.
    shutil.copytree(first, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "model.py").write_text((folder / "model.py").read_text().replace("'X * 2'", f"'X * {factor}'"))


def test_finished_rows_survive_a_server_crash_and_are_not_mixed_with_another_version(
    doubling: Path, command: Command, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.ones((FEWER, 2), np.float32))
    output, options = tmp_path / "y.npz", Options(doubling)
    line = [*command_line(tmp_path / "x.npy", output, "double"), "--retries", "0", *SLOWLY]
    with (
        served(options) as server,
        held(doubling, "double", HELD),
        running(line, output, server) as process,
    ):
        server.kill()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2 and "rows are kept in" in errors
    assert "the connection broke" in errors or "no server answers at" in errors
    add_version(doubling, 2, 3)
    again = ("clients.batch", tmp_path / "x.npy", output, "--model", "double", *SLOWLY)
    with served(options) as server:
        refused = command(*again, server=server)
    assert refused.returncode == 2 and "the same command resumes" not in refused.stderr
    assert "version 1 of double, with which this run began, is no longer served, but version 2 is" in refused.stderr
    assert "--mixed-versions" in refused.stderr and "--fresh" in refused.stderr
    # While the first version is served beside the second, the run goes on with it.
    with (doubling / "double" / "config.pbtxt").open("a") as config:
        config.write("version_policy { all {} }\n")
    with served(options) as server:
        result = command(*again, server=server)
    assert result.returncode == 0, result.stderr
    assert (arrays(output)["Y"] == 2).all() and "version" not in arrays(output)


@pytest.mark.parametrize("at_once", [True, False], ids=["from the beginning", "after the refusal"])
def test_a_run_goes_on_with_a_version_that_is_promoted_meanwhile_where_that_is_wanted(
    at_once: bool, protocol: Protocol, doubling: Path, command: Command, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.ones((FEWER, 2), np.float32))
    output, mixed = tmp_path / "y.npz", ("--mixed-versions",)
    flags = ("--model-control-mode=explicit", "--load-model=double")
    line = [*command_line(tmp_path / "x.npy", output, "double"), *SLOWLY, "--protocol", protocol]
    with (
        served(Options(doubling, flags=flags)) as server,
        held(doubling, "double", HELD) as hold,
        running([*line, *mixed[: int(at_once)]], output, server) as process,
    ):
        add_version(doubling, 2, 3)
        with Client(connection_to(server, "http")) as client:
            client.load("double")
        hold.unlink()
        _, errors = process.communicate(timeout=60)
        if not at_once:
            assert process.returncode == 2 and "version 1 of double, with which this run began" in errors
            options = ("--model", "double", *SLOWLY, *mixed)
            result = command("clients.batch", tmp_path / "x.npy", output, *options, server=server)
            process.returncode, errors = result.returncode, result.stderr
    assert process.returncode == 0, errors
    assert "version 1 of double is no longer served; version 2 is asked for the other rows" in errors
    output_arrays = arrays(output)
    assert list(output_arrays) == ["row", "Y", "version", "error"]
    assert set(output_arrays["version"].tolist()) == {1, 2} and (np.diff(output_arrays["version"]) >= 0).all()
    np.testing.assert_array_equal(output_arrays["Y"][:, 0], output_arrays["version"] + 1)


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_a_file_name_that_is_no_utf_8_loses_nothing(
    suffix: str, command: Command, server: Server, photos: Path, tmp_path: Path
) -> None:
    (photos / "a" / "1.png").rename(os.fsdecode(os.fsencode(photos / "a") + b"/caf\xe9.png"))
    (photos / "a" / "3.png").rename(os.fsdecode(os.fsencode(photos / "a") + b"/text\xff.png"))
    output = tmp_path / f"out.{suffix}"
    result = command("clients.batch", photos, output, "--model", MODEL, server=server)
    assert result.returncode == 1, result.stderr
    assert "6 rows (0 of an earlier run, 1 with an error)" in result.stdout
    names = (
        arrays(output)["file"].tolist() if suffix == "npz" else pyarrow.parquet.read_table(output)["file"].to_pylist()
    )
    assert sorted(names)[:3] == ["a/2.png", "a/caf\\xe9.png", "a/text\\xff.png"]


def test_an_output_that_cannot_be_written_is_said_before_the_work_begins(
    command: Command, server: Server, many: Path
) -> None:
    before = settled(lambda: inferences(server))
    refused = command("clients.batch", many, "/proc/out.npz", "--model", MODEL, server=server)
    assert refused.returncode == 2 and "error: nothing can be written to /proc: " in refused.stderr
    assert inferences(server) == before


def test_an_output_that_cannot_be_written_at_the_end_is_written_by_the_same_command(
    server: Server, many: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.npz"
    line = shlex.join([*command_line(many, output), "--outputs", "OUTPUT__0"])
    # A chunk is smaller than the largest file that is allowed, the whole output is not: as on a full disk.
    full = subprocess.run(
        ["bash", "-c", f"ulimit -f 100; {line}"], cwd=ROOT, env=at(server), text=True, capture_output=True
    )
    assert full.returncode == 2 and "Traceback" not in full.stderr
    assert f"error: {output} cannot be written: File too large; all rows are kept in {output}.partial" in full.stderr
    done = subprocess.run(["sh", "-c", line], cwd=ROOT, env=at(server), text=True, capture_output=True)
    assert done.returncode == 0 and last_line(done)["resumed_rows"] == ROWS
