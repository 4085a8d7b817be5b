"""A family compared through a real server, and what an export of a variant refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tools.repository import read_manifest, versions

Command = Callable[..., CompletedProcess[str]]


@pytest.fixture
def with_int8(scratch_repository: Path, command: Command, tmp_path: Path) -> Path:
    """A copy of the repository in which the digit classifier's int8 variant is built."""
    places = ("--repository", scratch_repository, "--samples", tmp_path / "samples")
    result = command("tools.export", "mnist_mlp_int8", *places, timeout=200)
    assert result.returncode == 0, result.stderr
    return scratch_repository


def test_a_variant_knows_its_parent_and_is_compared_with_it_on_the_same_images(
    with_int8: Path, command: Command, tmp_path: Path
) -> None:
    manifest = read_manifest("mnist_mlp_int8", versions("mnist_mlp_int8", with_int8)[-1], with_int8)
    assert manifest["parent"] == "mnist_mlp"
    options = ("--rounds", "1", "--seconds", "0.3", "--repository", with_int8, "--output", tmp_path)
    result = command("tools.compare", "mnist_mlp_int8", *options, timeout=200)
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout.splitlines()[-1])
    root, variant = document["models"]["mnist_mlp"], document["models"]["mnist_mlp_int8"]
    assert variant["accuracy"] == pytest.approx(manifest["accuracy"], abs=0.003)
    assert root["low"] <= root["accuracy"] <= root["high"] and root["difference"] == 0
    assert variant["file_bytes"] < 0.5 * root["file_bytes"]
    for member in (root, variant):
        # At least the weights; with the Python-based backend a process for each instance.
        assert member["file_bytes"] < member["memory_bytes"] < 1e9
        assert member["rate"] > 100 and 0 < member["latency_ms"] < 100
    assert set(document["front"]) <= {"mnist_mlp", "mnist_mlp_int8"}
    assert 'class="plot"' in (tmp_path / "mnist_mlp.html").read_text()


def test_int8_never_gets_a_config_that_may_run_on_a_gpu(
    scratch_repository: Path, command: Command, tmp_path: Path
) -> None:
    config = scratch_repository / "mnist_mlp_int8" / "config.pbtxt"
    config.write_text(config.read_text().replace("KIND_CPU", "KIND_GPU"))
    places = ("--repository", scratch_repository, "--samples", tmp_path / "samples")
    result = command("tools.export", "mnist_mlp_int8", *places, timeout=200)
    assert result.returncode == 1
    assert (
        "instance groups may run on a GPU, but quantized::" in result.stderr and "set `kind: KIND_CPU`" in result.stderr
    )


def test_a_family_that_is_not_built_names_the_command_that_builds_it(
    scratch_repository: Path, command: Command
) -> None:
    for version in versions("mnist_mlp_int8", scratch_repository):
        (scratch_repository / "mnist_mlp_int8" / str(version)).rename(scratch_repository / f".gone-{version}")
    result = command("tools.compare", "mnist_mlp", "--repository", scratch_repository)
    assert result.returncode == 2
    assert "run `python -m tools.export mnist_mlp_int8`" in result.stderr
    assert "error: nothing to compare" in result.stderr
