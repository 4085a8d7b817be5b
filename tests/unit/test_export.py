"""Export: what is published is what was proven, and a failed proof leaves the repository as it was, byte for byte."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clients.contract import TensorSpec
from tools import datasets, recipes, torchscript
from tools.cpu_config import write_cpu_config
from tools.export import __main__ as export
from tools.export.conversion import ImportedModel
from tools.export.proof import ProofError, check_close
from tools.recipes import Imported
from tools.recipes.mnist_mlp import SimpleNN
from tools.repository import config_path, read_config, version_path, versions
from tools.train import training

pytestmark = pytest.mark.usefixtures("one_thread")
MODEL = "mnist_mlp"
Patch = pytest.MonkeyPatch
Printed = pytest.CaptureFixture[str]
Export = Callable[..., int]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the training that all tests share writes its checkpoint."""
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The model's folder with a version 1, for one test to change."""
    folder = tmp_path / "models" / MODEL
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.pt").write_text("version 1")
    for path in (config_path(MODEL), config_path(MODEL).with_name("labels.txt")):
        shutil.copy(path, folder)
    write_cpu_config(MODEL, folder.parent)
    return folder.parent


@pytest.fixture
def run(repository: Path, checkpoints: Path, tmp_path: Path, monkeypatch: Patch) -> Export:
    """Run the command on a copy of the repository with a short training; returns its exit code."""
    monkeypatch.setattr("tools.train.checkpoints.CHECKPOINTS", checkpoints)

    def export_model(*arguments: str) -> int:
        places = ["--repository", str(repository), "--samples", str(tmp_path / "samples")]
        settings = ["--data=digits", "--epochs=2", "--device=cpu"]
        monkeypatch.setattr(sys, "argv", ["export", *places, *settings, MODEL, *arguments])
        return export.main()

    return export_model


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def change_config(repository: Path, before: str, after: str) -> None:
    path = repository / MODEL / "config.pbtxt"
    assert path.read_text().count(before) == 1
    path.write_text(path.read_text().replace(before, after))


def change_recipe(monkeypatch: Patch, **changes: Any) -> None:
    changed = replace(recipes.load(MODEL), **changes)
    monkeypatch.setattr(recipes, "load", lambda _: changed)


class OtherWhenScripted(SimpleNN):
    """Returns slightly larger logits as TorchScript."""

    def classify(self, features: Tensor) -> Tensor:
        logits = self.fc3(features)
        if torch.jit.is_scripting():
            logits = logits + 1e-3
        return logits


class RowsMix(SimpleNN):
    """Compares each row with the others of its batch."""

    def classify(self, features: Tensor) -> Tensor:
        logits = self.fc3(features)
        return logits + 0.1 * logits.mean(0)


class OneRow(SimpleNN):
    """Takes one row only, like a file traced with a single image."""

    def classify(self, features: Tensor) -> Tensor:
        logits = self.fc3(features)
        if torch.jit.is_scripting():
            logits = logits.reshape(1, 10)
        return logits


class NotTorchScript(SimpleNN):
    """Uses variadic arguments, which TorchScript cannot express."""

    def classify(self, *features: Tensor) -> Tensor:
        return self.fc3(features[0])


def test_a_proven_model_becomes_the_next_version_with_a_true_manifest(
    run: Export, repository: Path, capsys: Printed
) -> None:
    before = contents(repository)
    assert run() == 0
    folder = version_path(MODEL, 2, repository)
    manifest = json.loads((folder / "manifest.json").read_text())
    file = (folder / "model.pt").read_bytes()
    assert manifest["file"] == {
        "name": "model.pt",
        "bytes": len(file),
        "sha256": hashlib.sha256(file).hexdigest(),
    }
    assert manifest["golden"]["sha256"] == hashlib.sha256((folder / "golden.npz").read_bytes()).hexdigest()
    data = datasets.load("digits")
    accuracy = training.accuracy(
        torchscript.load(folder / "model.pt"),
        data.test_images,
        data.test_labels,
        training.input_spec(MODEL),
    )
    assert manifest["accuracy"] == round(accuracy, 6) and accuracy >= 0.9
    assert (manifest["model"], manifest["version"], manifest["torch"]) == (MODEL, 2, torch.__version__)
    expected = {"epochs": 2, "batch_size": 64, "lr": 1e-3, "seed": 0, "device": "cpu", "weights": None}
    assert manifest["training"] == expected
    assert manifest["data"] == {"name": "digits", "title": data.title, "stand_in": True, "sha256": data.sha256}
    out = capsys.readouterr().out.splitlines()
    assert json.loads(out[-1]) == {MODEL: manifest}
    assert f"{MODEL} version 2: test accuracy {accuracy:.2%} on 360 images of {data.title}" in out[-2]
    # Nothing else has changed.
    added = {f"{MODEL}/2/model.pt", f"{MODEL}/2/manifest.json", f"{MODEL}/2/golden.npz"}
    assert {name: content for name, content in contents(repository).items() if name not in added} == before


def test_sample_images_of_every_class_are_written(run: Export, tmp_path: Path) -> None:
    assert run() == 0
    classes = datasets.load("digits").classes
    assert [len(list((tmp_path / "samples" / MODEL / name).glob("*.png"))) for name in classes] == [5] * 10


@pytest.mark.parametrize(
    ("before", "after", "code", "message"),
    [
        (
            "dims: [ 10 ]",
            "dims: [ 12 ]",
            1,
            "OUTPUT__0: config.pbtxt says [1, 12] at batch 1, the model returns [1, 10]",
        ),
        (
            "TYPE_FP32\n    dims: [ 10 ]",
            "TYPE_FP16 dims: [ 10 ]",
            1,
            "config.pbtxt says FP16, the model returns torch.fl",
        ),
        (
            "TYPE_FP32\n    dims: [ 10 ]",
            "TYPE_BF16 dims: [ 10 ]",
            1,
            "unsupported datatype TYPE_BF16 for output 'OUTPUT__",
        ),
        ("TYPE_FP32\n    dims: [ 784 ]", "TYPE_FP64 dims: [ 784 ]", 1, "config.pbtxt's input [1, 784] torch.float64"),
        ("dims: [ 784 ]\n  }\n]", "dims: [ 783 ]\n  }\n]", 2, "dims [783], got 1x28x28; set parameter IMAGE_SHAPE"),
        (
            "dims: [ 784 ]\n  }\n]",
            'dims: [ 784 ]\n  },\n  { name: "INPUT__1" data_type: TYPE_FP32 dims: [ 1 ] }\n]',
            1,
            "configuration expects 2 inputs, model provides 1",
        ),
        (
            'name: "OUTPUT__0"',
            'name: "OUTPUT__2"',
            1,
            "returns 2 outputs, config.pbtxt has OUTPUT__2 at 2, FEATURES__1 at 1, counted from 0",
        ),
        ("IMAGE_STD", "IMAGE_STT", 2, "its config.pbtxt has no parameters IMAGE_MEAN and IMAGE_STD"),
        ('name: "mnist_mlp"', "nome: 3", 2, "config.pbtxt:2:1 : "),
    ],
)
def test_a_config_that_does_not_match_the_model_is_refused(
    before: str, after: str, code: int, message: str, run: Export, repository: Path, capsys: Printed
) -> None:
    change_config(repository, before, after)
    untouched = contents(repository)
    assert run() == code
    assert contents(repository) == untouched
    out, err = capsys.readouterr()
    assert out == "" and message in err.splitlines()[-1] and err.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": OtherWhenScripted}, "OUTPUT__0: TorchScript differs from eager by 0.001"),
        ({"network": RowsMix}, "OUTPUT__0: a row's answer depends on its batch: it differs by "),
        ({"network": OneRow}, "fails on config.pbtxt's input [2, 784] torch.float32 (batch 2): "),
        ({"network": NotTorchScript}, "mnist_mlp cannot be written as TorchScript: "),
        ({"floors": {"mnist": 0.1, "digits": 0.9999}}, "on digits is below the recipe's floor of 99.99%"),
    ],
)
def test_a_network_that_must_not_be_served_is_refused(
    changes: dict[str, Any], message: str, run: Export, repository: Path, monkeypatch: Patch, capsys: Printed
) -> None:
    change_recipe(monkeypatch, **changes)
    untouched = contents(repository)
    assert run() == 1
    assert contents(repository) == untouched
    assert not list(repository.glob("*/.staging-*"))
    out, err = capsys.readouterr()
    assert out == "" and "\nerror: " in f"\n{err}" and message in err


@pytest.mark.parametrize("found", [torch.zeros(1, 2, 1), torch.zeros(1, 2).double()])
def test_torchscript_must_return_the_shape_and_dtype_of_eager(found: Tensor) -> None:
    with pytest.raises(ProofError, match=r"Y: TorchScript returns .* at batch 1, eager \[1, 2\] torch.float32"):
        check_close(TensorSpec("Y", "FP32", (2,)), torch.zeros(1, 2), found, batch=1)


def test_a_version_that_exists_is_refused_before_anything_is_trained(
    run: Export, repository: Path, tmp_path: Path, monkeypatch: Patch, capsys: Printed
) -> None:
    monkeypatch.setattr("tools.train.checkpoints.CHECKPOINTS", tmp_path / "none")
    untouched = contents(repository)
    assert run("--version=1") == 2
    assert "/mnist_mlp/1 exists and versions never change; choose another --version" in capsys.readouterr().err
    assert contents(repository) == untouched and not (tmp_path / "none").exists()


def test_a_version_can_be_chosen_and_old_ones_dropped(run: Export, repository: Path, capsys: Printed) -> None:
    assert run("--version=7") == 0 and versions(MODEL, repository) == [1, 7]
    assert run("--keep=2") == 0 and versions(MODEL, repository) == [7, 8]
    assert "; removed 1\n" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--version=0", "--version=-1", "--keep=0", "--keep=two"])
def test_invalid_numbers_are_refused_by_name(option: str, run: Export, capsys: Printed) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(option)
    flag, value = option.split("=")
    assert f"argument {flag}: expected a whole number above 0, got '{value}'" in capsys.readouterr().err


def test_missing_exports_only_what_has_no_version(run: Export, repository: Path, capsys: Printed) -> None:
    untouched = contents(repository)
    assert run("--missing") == 0
    assert contents(repository) == untouched
    assert capsys.readouterr().err == f"{MODEL}: has version 1\n"


def test_publishing_updates_the_cpu_config(run: Export, repository: Path) -> None:
    change_config(repository, "max_batch_size: 64", "max_batch_size: 32")
    change_config(repository, "batch_size: 64\n", "batch_size: 32\n")
    assert run() == 0
    assert read_config(MODEL, "cpu", repository).max_batch_size == 32


def test_an_unknown_model_and_an_unknown_repository_are_named(
    run: Export, tmp_path: Path, monkeypatch: Patch, capsys: Printed
) -> None:
    assert run("no_such_model") == 2
    assert "error: no recipe tools/recipes/no_such_model.py" in capsys.readouterr().err
    assert run(f"--repository={tmp_path}") == 2
    assert f"error: {tmp_path}/mnist_mlp/config.pbtxt does not exist; models in {tmp_path}: none" in (
        capsys.readouterr().err
    )


def test_indices_that_an_imported_network_cannot_have_are_refused_with_the_config(tmp_path: Path) -> None:
    config = tmp_path / "sum" / "config.pbtxt"
    config.parent.mkdir()
    tensors = 'input { name: "A__0" data_type: TYPE_FP32 dims: 2 } input { name: "B__2" data_type: TYPE_FP32 dims: 2 }'
    config.write_text(f'name: "sum" backend: "pytorch" {tensors} output {{ name: "Y" data_type: TYPE_FP32 dims: 2 }}')
    model = ImportedModel(Sum(), "sum", Imported(module="unused.py:Sum"), tmp_path)
    with pytest.raises(ProofError, match=f"^{config}: inputs A__0, B__2: expected the indices 0 to 1 after '__'"):
        _ = model.input_names


class Sum(nn.Module):
    """Two inputs."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b
