"""tools.tune on a real server, with little time: that it works, not what it finds."""

import json
from pathlib import Path

from tests.conftest import Command
from tools.repository import CPU_CONFIG, config_path, read_config
from tools.tuning.candidates import applied, candidate_from
from tools.tuning.served import base_of


def test_a_tuned_config_is_written_with_its_evidence_and_the_committed_one_stays(
    command: Command, scratch_repository: Path, tmp_path: Path
) -> None:
    committed = config_path("mnist_mlp", repository=scratch_repository).read_text()
    line = ["mnist_mlp", "--slo", "p95<100ms", "--budget", "40s", "--trial", "0.5"]
    line += ["--repository", str(scratch_repository), "--output", str(tmp_path), "--warm-up", "0.1"]
    result = command("tools.tune", *line)
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout.splitlines()[-1])
    assert "simulated in" in result.stderr
    assert document["measured"][0]["candidate"] == document["committed"]["candidate"]
    written = read_config("mnist_mlp", CPU_CONFIG, scratch_repository)
    best = candidate_from(document["best"]["candidate"])
    assert written == applied(best, base_of("mnist_mlp", scratch_repository, gpu=False))
    assert "Tuned by tools.tune" in config_path("mnist_mlp", CPU_CONFIG, scratch_repository).read_text()
    assert config_path("mnist_mlp", repository=scratch_repository).read_text() == committed
    assert "<svg" in (tmp_path / "mnist_mlp.html").read_text()
    # The same command has nothing left to measure, and says the same.
    again = command("tools.tune", *line)
    assert json.loads(again.stdout.splitlines()[-1])["best"] == document["best"], again.stderr


def test_a_model_that_cannot_be_tuned_is_named(command: Command, tmp_path: Path) -> None:
    result = command("tools.tune", "cifar10_image", "--slo", "p99<20ms", "--output", str(tmp_path))
    assert result.returncode == 2
    assert "cifar10_image" in result.stderr
    assert "dynamic_batching" in result.stderr
