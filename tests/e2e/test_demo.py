"""`make demo`'s command, as a whole, on what `make test` has built."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from tools.repository import model_names, read_config, read_manifest, versions

SECONDS = 2


def manifest_of(model: str) -> dict[str, Any]:
    return read_manifest(model, versions(model)[-1])


def test_the_demo_goes_the_whole_way_and_ends_with_one_json_document(
    built: Path, command: Callable[..., CompletedProcess[str]]
) -> None:
    before = {model: versions(model) for model in model_names()}
    options = ("--images", "10", "--verify", "40", "--users", "4", "--run-time", str(SECONDS))
    result = command("tools.demo", *options, timeout=240)
    assert result.returncode == 0, result.stderr
    *lines, last = result.stdout.splitlines()
    document = json.loads(last)
    assert not [line for line in (*lines, *result.stderr.splitlines()) if line.startswith("{")]
    assert {model: versions(model) for model in model_names()} == before
    for model, found in document["models"].items():
        manifest = read_manifest(model, found["version"])
        assert found == {
            "accuracy": manifest["accuracy"],
            "data": manifest["data"]["title"],
            "version": versions(model)[-1],
        }
        assert f"{found['accuracy']:.2%} on {found['data']}" in result.stdout
    asked = [(one["model"], one["protocol"]) for one in document["inference"]]
    # Steps of pipelines answer nobody's question; whatever has been measured is asked.
    measured = {model for model in model_names() if before[model] and "accuracy" in manifest_of(model)}
    assert set(asked) == {(model, protocol) for model in measured for protocol in ("http", "grpc")}
    assert any(read_config(model).ensemble_scheduling.step for model in measured)
    assert set(document["verification"]) == measured
    assert all(one["sent"] > 40 and one["max_abs"] < 1 for one in document["verification"].values())
    right = [one["label"] == one["truth"] for one in document["inference"]]
    assert sum(right) / len(right) > 0.7
    assert set(document["loadtest"]) == {"http", "grpc"}
    for run in document["loadtest"].values():
        assert run["errors"] == 0 and run["rps"] > 10 and run["mean_batch"] >= 1
        assert 0 < run["p50_ms"] <= run["p95_ms"] <= run["p99_ms"]
