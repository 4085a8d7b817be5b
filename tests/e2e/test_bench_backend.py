"""The benchmark of the backends: both serve, their figures stand side by side, with the costs of each server."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

from tests.compiler import NEEDS_NATIVE

MODEL = "mnist_mlp"


@NEEDS_NATIVE
def test_both_backends_are_measured_in_one_run(
    built: Path, tmp_path: Path, command: Callable[..., CompletedProcess[str]]
) -> None:
    for model in (MODEL, "cifar10_cnn"):
        shutil.copytree(built / model, tmp_path / model)
    options = ("--concurrency", "2", "--seconds", "0.5", "--protocols", "http", "--repository", tmp_path)
    result = command("tools.bench", "backend", MODEL, *options, timeout=240)
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout.splitlines()[-1])
    served = document[MODEL]["http"]["2"]
    assert set(served) == set(document["costs"]) == {"native", "python"}
    for figures in served.values():
        assert figures["rps"] > 50 and 0 < figures["p50_ms"] <= figures["p99_ms"] and figures["server_us"] > 0
        assert all(rate > 100 for rate in figures["in_process"].values())
    costs = document["costs"]
    # A process for each instance against none: the gap is far wider than any noise.
    assert costs["native"]["memory_bytes"] < 0.7 * costs["python"]["memory_bytes"]
    assert costs["native"]["load_s"] < costs["python"]["load_s"]
    assert "÷ python" in result.stdout
