"""tools.tune on a real server, with little time: that it works, not what it finds."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from clients.client import Client
from clients.connection import Connection
from clients.errors import ClientError
from tests.conftest import Command, served
from tools.repository import CPU_CONFIG, config_path, read_config
from tools.serve.tritonserver import Options
from tools.tune.candidates import apply_candidate, candidate_from, candidate_of
from tools.tune.serving import base_config

# However short the budget: the committed config and another are tried.
BRIEF = ("--budget", "3s", "--trial", "0.4", "--warm-up", "0.1")


def test_a_tuned_config_is_written_with_its_evidence_and_the_committed_one_stays(
    command: Command, scratch_repository: Path, tmp_path: Path
) -> None:
    committed = config_path("mnist_mlp", repository=scratch_repository).read_text()
    line = ["mnist_mlp", "--slo", "p95<500ms", *BRIEF, "--repository", str(scratch_repository)]
    line += ["--output", str(tmp_path)]
    result = command("tools.tune", *line)
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout.splitlines()[-1])
    assert document["measured"][0]["candidate"] == document["committed"]["candidate"]
    assert len(document["measured"]) >= 2
    written = read_config("mnist_mlp", CPU_CONFIG, scratch_repository)
    best = candidate_from(document["best"]["candidate"])
    assert written == apply_candidate(best, base_config("mnist_mlp", scratch_repository, gpu=False))
    assert "Tuned by tools.tune" in config_path("mnist_mlp", CPU_CONFIG, scratch_repository).read_text()
    assert config_path("mnist_mlp", repository=scratch_repository).read_text() == committed
    assert 'class="plot"' in (tmp_path / "mnist_mlp.html").read_text()
    # The same command has nothing left to measure, and says the same.
    again = command("tools.tune", *line)
    assert json.loads(again.stdout.splitlines()[-1])["best"] == document["best"], again.stderr


def test_a_model_that_cannot_be_tuned_is_named(command: Command, tmp_path: Path) -> None:
    result = command("tools.tune", "cifar10_image", "--slo", "p99<20ms", "--output", str(tmp_path))
    assert result.returncode == 2
    assert "cifar10_image" in result.stderr
    assert "dynamic_batching" in result.stderr


def test_a_server_elsewhere_is_tuned_for_latency_and_gets_its_config_back(
    command: Command, scratch_repository: Path, tmp_path: Path
) -> None:
    options = Options(scratch_repository, flags=("--model-control-mode=explicit", "--load-model=mnist_mlp"))
    wanted = ["--slo", "p95<500ms", "--objective", "latency", "--rate", "300", *BRIEF]
    places = ["--repository", str(scratch_repository), "--output", str(tmp_path), "--name", "there"]
    with served(options) as server, Client(Connection("http", server.http)) as client:
        before = client.config("mnist_mlp")
        result = command("tools.tune", "mnist_mlp", *wanted, "--url", server.http, *places)
        assert result.returncode == 0, result.stderr
        assert client.config("mnist_mlp") == before
    best = json.loads(result.stdout.splitlines()[-1])["best"]
    assert 0 < best["figure"] < 500
    measured = json.loads((tmp_path / "mnist_mlp.json").read_text())["measured"]
    assert {trial["rate"] for trial in measured[0]["trials"]} == {300}
    written = read_config("mnist_mlp", "there", scratch_repository)
    assert candidate_of(written) == candidate_from(best["candidate"])


def test_a_server_that_others_use_is_left_alone_unless_told(
    command: Command, scratch_repository: Path, tmp_path: Path
) -> None:
    options = Options(scratch_repository, flags=("--model-control-mode=explicit", "--load-model=mnist_mlp"))
    places = ["--repository", str(scratch_repository), "--output", str(tmp_path), "--dry-run"]
    line = ["mnist_mlp", "--slo", "p95<500ms", *BRIEF, *places]
    with served(options) as server, Client(Connection("http", server.http)) as client:
        stop, failures = threading.Event(), []

        def call() -> None:
            while not stop.wait(0.05):
                try:
                    client.infer("mnist_mlp", np.zeros((1, 784), np.float32))
                except ClientError as error:
                    failures.append(error)

        other = threading.Thread(target=call)
        other.start()
        refused = command("tools.tune", *line, "--url", server.http)
        seen = list(failures)
        told = command("tools.tune", *line, "--url", server.http, "--disturb")
        stop.set()
        other.join()
    assert refused.returncode == 2 and not seen
    assert " of mnist_mlp); each choice is tried by unloading the model, so that they get 404" in refused.stderr
    assert told.returncode in (0, 1), told.stderr


def test_models_that_share_a_server_are_tuned_together(
    command: Command, scratch_repository: Path, tmp_path: Path
) -> None:
    places = ["--repository", str(scratch_repository), "--output", str(tmp_path)]
    line = ["mnist_mlp=3", "cifar10_cnn=1", "--slo", "p95<500ms", *BRIEF, *places]
    result = command("tools.tune", *line)
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout.splitlines()[-1])
    assert document["shares"] == {"mnist_mlp": 0.75, "cifar10_cnn": 0.25}
    for model, choice in zip(document["models"], document["best"]["plan"], strict=True):
        assert candidate_of(read_config(model["model"], CPU_CONFIG, scratch_repository)) == candidate_from(choice)
    measured = json.loads((tmp_path / "mnist_mlp-cifar10_cnn.json").read_text())["measured"][0]["trials"][0]
    sent = [part["rate"] for part in measured["parts"]]
    assert sent[0] == pytest.approx(3 * sent[1])
    assert sum(sent) == pytest.approx(measured["rate"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mnist_mlp=0", "cifar10_cnn"], "mnist_mlp=0"),
        (["mnist_mlp=much", "cifar10_cnn"], "mnist_mlp=much"),
        (["mnist_mlp", "mnist_mlp"], "each model once"),
        (["mnist_mlp", "cifar10_cnn", "--objective", "latency", "--rate", "100"], "--objective latency is for one"),
        (["mnist_mlp", "--rate", "100"], "--rate is for"),
    ],
)
def test_shares_and_objectives_that_do_not_fit_are_refused(command: Command, words: list[str], message: str) -> None:
    result = command("tools.tune", *words, "--slo", "p99<20ms")
    assert result.returncode == 2
    assert message in result.stderr
