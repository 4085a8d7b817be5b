"""The validation of the load generator: both generators load the same server, with windows as long as stated."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from clients.client import Client
from clients.connection import Connection
from tests.generator.generators import Load, count, write_inputs
from tools.bench.perf_analyzer import measure_once, total_seconds
from tools.serve.tritonserver import Server
from tools.serve.usage import cpu_seconds

pytestmark = pytest.mark.slow
MODEL = "mnist_mlp"


def test_perf_analyzer_sends_for_as_long_as_its_windows_are_stated_to_last(
    repository: Path, server: Server, tmp_path: Path
) -> None:
    load = Load(MODEL, "http", 2, 0.5, write_inputs(MODEL, repository, tmp_path / "inputs"))
    measured, requests, used = count(
        load, server, lambda: measure_once(MODEL, server.http, "http", load.concurrency, load.seconds, load.inputs)
    )
    assert measured is not None
    assert 0.9 * total_seconds(0.5) < requests / measured.rate < 1.5 * total_seconds(0.5)
    assert used > 0 and 0 < measured.cpu_s < 2 * 5


def test_inputs_for_perf_analyzer_have_the_name_and_size_of_the_contract(
    repository: Path, server: Server, tmp_path: Path
) -> None:
    with Client(Connection("http", server.http)) as client:
        (spec,) = client.contract(MODEL).inputs
    (written,) = write_inputs(MODEL, repository, tmp_path / "inputs").iterdir()
    assert written.name == spec.name and written.stat().st_size == 4 * 784


def test_processor_time_of_the_server_grows_with_the_requests_that_its_instances_answer(server: Server) -> None:
    before = cpu_seconds(server.pid)
    measure_once(MODEL, server.grpc, "grpc", 4, 0.5)
    assert 0.2 < cpu_seconds(server.pid) - before < 60


def test_one_run_measures_with_both_generators(
    repository: Path, tmp_path: Path, command: Callable[..., CompletedProcess[str]]
) -> None:
    options = ("--concurrency", "2", "--rounds", "1", "--seconds", "0.5")
    places = ("--repository", repository, "--output", tmp_path)
    result = command("tests.generator", MODEL, *options, *places, timeout=200)
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout.splitlines()[-1])[MODEL]
    assert set(figures) == {"http", "grpc"}
    for row in (protocol["2"] for protocol in figures.values()):
        assert row["rounds"] == 1 and row["seconds"] == pytest.approx(total_seconds(0.5))
        assert all(0 < row[who]["cpu_us"] < 1e5 and row[who]["served"] > 10 for who in ("ours", "theirs"))
        assert row["theirs"]["rate"] > 10 and row["theirs"]["p50_ms"] <= row["theirs"]["p99_ms"]
        # Where our generator was the bottleneck on a busy machine, it gives no figures.
        assert row["invalid"] == 1 or (row["ours"]["rate"] > 10 and 0.05 < row["p50"]["median"] < 20)
    assert 'class="plot"' in (tmp_path / f"{MODEL}.html").read_text()
