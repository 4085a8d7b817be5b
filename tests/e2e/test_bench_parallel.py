"""The benchmark of parallelism: each setting really reaches the server, and the figures tell them apart."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

from tools.bench.parallel import COMMITTED, ParallelOptions, write_settings
from tools.repository import read_config

MODEL = "mnist_mlp"


def test_each_copy_differs_from_the_committed_config_in_its_one_setting(repository: Path, tmp_path: Path) -> None:
    options = ParallelOptions(
        models=[MODEL],
        concurrency=[1],
        seconds=1.0,
        hardware="auto",
        repository=repository,
        protocol="grpc",
        delays=[250],
        instances=[3],
        threads=[2],
        output=tmp_path,
    )
    copies = write_settings(MODEL, options, tmp_path)
    configs = {name: read_config(copy, repository=tmp_path) for copy, name in copies.items()}
    committed = configs.pop(COMMITTED)
    assert not configs["batching off"].HasField("dynamic_batching")
    assert configs["delay 250 µs"].dynamic_batching.max_queue_delay_microseconds == 250
    assert configs["3 instances"].instance_group[0].count == 3
    assert configs["2 threads"].parameters["INTRA_OP_THREAD_COUNT"].string_value == "2"
    for config in configs.values():
        assert config != committed and config.input == committed.input
    assert all((tmp_path / copy / "1" / "model.pt").is_file() for copy in copies)


def test_one_run_measures_all_settings_through_the_server(
    repository: Path, tmp_path: Path, command: Callable[..., CompletedProcess[str]]
) -> None:
    options = ("--concurrency", "16", "--delays", "--instances", "--threads", "--rounds", "1", "--seconds", "0.3")
    places = ("--repository", repository, "--output", tmp_path)
    result = command("tools.bench", "parallel", MODEL, *options, *places, timeout=200)
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout.splitlines()[-1])[MODEL]
    assert set(figures) == {COMMITTED, "batching off"}
    assert all(row["16"]["rps"] > 10 and row["16"]["p99_ms"] > 0 for row in figures.values())
    assert 'class="plot"' in (tmp_path / f"{MODEL}.html").read_text()
