"""The accuracy gate at the wire: what the server answers is what the trained network answers, or it fails."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor, nn

from clients.connection import PROTOCOLS
from tests.untrained import MODEL, add_untrained
from tools import torchscript
from tools.export import golden, pipelines
from tools.repository import MANIFEST_FILE, read_manifest, version_path, versions
from tools.serve.tritonserver import Server
from tools.steps.answer import Classification
from tools.verify import __main__ as verify
from tools.verify import references
from tools.verify.passes import Effort
from tools.verify.verification import recorded_verdict
from tools.verify.verifier import Verifier, connections


class RowsMix(nn.Module):
    """Answers all rows differently where one of them is huge, as no row of normal numbers is."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        probabilities, index, best = self.network(logits)
        if bool(logits.max() > 1e3):
            probabilities = probabilities / 2
        return probabilities, index, best


def replace_file(repository: Path, model: str, network: nn.Module) -> None:
    """Put another network in a version's place, as if it had been published so."""
    version = versions(model, repository)[-1]
    folder = version_path(model, version, repository)
    torchscript.save(network, folder / "model.pt")
    manifest = read_manifest(model, version, repository)
    manifest["file"]["sha256"] = hashlib.sha256((folder / "model.pt").read_bytes()).hexdigest()
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))


@pytest.fixture
def two_models(built: Path, tmp_path: Path) -> Path:
    """A repository with a step and a classifier."""
    for model in ("classification", MODEL):
        shutil.copytree(built / model, tmp_path / "models" / model)
    return tmp_path / "models"


def test_every_kind_of_model_answers_over_both_protocols_as_it_does_without_a_server(
    server: Server, repository: Path
) -> None:
    effort = Effort(sizes=(1, 5), concurrencies=(1, 8))
    verifier = Verifier(connections(server.http, server.grpc), "remote", repository, effort)
    classifier, pipeline, step = map(verifier.verify, ("mnist_mlp", "digit_image_bytes", "classification"))
    for verification in (classifier, pipeline, step):
        assert verification.passed, verification.findings.failures
        assert verification.protocols == ("http", "grpc") and verification.concurrencies == (1, 8)
        assert verification.findings.sent > 2 * verification.rows and verification.server["version"] == "2.51.0"
    assert classifier.sizes == (1, 5) and pipeline.sizes == (1,)
    for verification in (classifier, pipeline):
        manifest = read_manifest(verification.model, verification.version, repository)
        assert verification.rows == manifest["test_images"]
        for accuracy in verification.findings.accuracies.values():
            assert round(accuracy.served, 6) == manifest["accuracy"] == round(accuracy.expected, 6)
            assert accuracy.low < accuracy.served < accuracy.high
    # Eight callers that send one row each are computed together, or nothing is known about their company.
    assert (classifier.findings.batch or 0) > 1.2


def test_answers_to_the_golden_requests_are_compared_too(server: Server, built: Path, tmp_path: Path) -> None:
    version = versions(MODEL, built)[-1]
    folder = Path(shutil.copytree(built / MODEL, tmp_path / MODEL)) / str(version)
    manifest = read_manifest(MODEL, version, tmp_path)
    (folder / MANIFEST_FILE).write_text(json.dumps({**manifest, "golden": manifest["file"]}))
    verifier = Verifier(connections(server.http, server.grpc), "remote", tmp_path, Effort(sizes=(1,), limit=8))
    inputs, failures = {"INPUT__0": np.ones((1, 784), np.float32)}, []
    logits = pipelines.compose(MODEL, tmp_path)(inputs)["OUTPUT__0"]
    for answer in (logits, logits + 1):
        golden.write(folder, lambda _, answer=answer: {"OUTPUT__0": answer}, [inputs], 1e-3)
        failures.append(verifier.verify(MODEL).findings.failures)
    assert failures[0] == []
    assert [words.partition(": ")[0] for words in failures[1]] == [f"a golden request over {p}" for p in PROTOCOLS]


def test_a_server_that_answers_differently_fails_and_its_worst_answers_are_shown(
    two_models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_file(two_models, "classification", RowsMix(Classification()))
    options = ["--repository", str(two_models), "--batch-sizes", "1", "5", "--concurrency", "1", "8"]
    monkeypatch.setattr(sys, "argv", ["verify", *options])
    untrained = add_untrained(two_models)
    assert verify.main() == 1
    out = capsys.readouterr().out
    document = json.loads(out.splitlines()[-1])
    mixed = document["classification"]
    assert not mixed["passed"]
    assert mixed["findings"]["too_far"]["alone"] > 0 and mixed["findings"]["too_far"]["eager"] > 0
    assert f"classification version {mixed['version']} FAILED" in out
    assert "answers differ from those that the same rows get alone" in out
    worst = mixed["findings"]["worst"][0]
    assert f"row {worst['row']} over {worst['way']}: PROBABILITIES__0 is" in out
    # What was not trained answers as its eager network does, and is as far from good enough.
    eager = document[MODEL]
    assert (eager["version"], eager["reference"], eager["passed"]) == (untrained, references.EAGER, False)
    assert eager["findings"]["too_far"] == {"eager": 0, "alone": 0} and 0 < eager["findings"]["max_abs"] < 1e-4
    assert all("is below the recipe's floor" in failure for failure in eager["findings"]["failures"])
    for model, printed in document.items():
        version = printed["version"]
        recorded = json.loads((version_path(model, version, two_models) / "verification.json").read_text())
        manifest = read_manifest(model, version, two_models)
        assert recorded["passed"] == printed["passed"] == recorded_verdict(model, version, two_models)
        assert recorded["sha256"]["model.pt"] == manifest["file"]["sha256"]
        assert recorded["server"] == {"name": "triton", "version": "2.51.0", "kind": "embedded"}
