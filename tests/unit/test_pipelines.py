"""Pipelines before they are served: dependencies, what is published, and what is refused."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clients.golden import complaint, read
from tools import recipes
from tools.export import __main__ as export
from tools.export import pipelines
from tools.export.proof import ProofError, prove_labels
from tools.recipes import Pipeline, RecipeError
from tools.repository import RepositoryError, read_manifest, version_path, versions
from tools.train import training

Printed = pytest.CaptureFixture[str]
Export = Callable[..., int]


@pytest.fixture
def run(scratch_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Export:
    """Run the command on a copy of the built repository; returns its exit code."""

    def export_models(*arguments: str) -> int:
        places = ["--repository", str(scratch_repository), "--samples", str(tmp_path / "samples")]
        monkeypatch.setattr(sys, "argv", ["export", *places, *arguments])
        return export.main()

    return export_models


def assert_golden(model: str, folder: Path, repository: Path) -> None:
    """The model answers its golden requests as they say."""
    golden, answer = read(folder / "golden.npz"), pipelines.compose(model, repository)
    assert golden and len(golden.cases) > 1
    assert [complaint(case, answer(case.inputs), golden.tolerance) for case in golden.cases] == [""] * len(golden.cases)


def test_members_come_before_their_ensembles() -> None:
    names = ["cifar10_image_bytes", "digit_image", "cifar10_image", "mnist_mlp", "image_decode"]
    assert pipelines.in_order(names) == ["mnist_mlp", "image_decode", "digit_image", "cifar10_image", names[0]]
    assert pipelines.all_members("digit_image_bytes") == [
        "image_decode",
        "digit_prepare",
        "mnist_mlp",
        "classification",
        "digit_image",
        "digit_label",
    ]
    assert pipelines.members("mnist_mlp") == []


def test_a_pipeline_has_one_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pipelines.classifier_of("digit_image_bytes") == "mnist_mlp"
    monkeypatch.setattr(recipes, "load", lambda _: Pipeline())
    with pytest.raises(RecipeError, match="digit_image: expected one trained model among its members, got none"):
        pipelines.classifier_of("digit_image")


def test_a_pipeline_s_version_is_a_manifest_with_both_accuracies(
    run: Export, scratch_repository: Path, tmp_path: Path, capsys: Printed
) -> None:
    assert run("digit_image_bytes", "--version=70") == 0
    folder = version_path("digit_image_bytes", 70, scratch_repository)
    assert sorted(path.name for path in folder.iterdir()) == ["golden.npz", "manifest.json"]
    assert_golden("digit_image_bytes", folder, scratch_repository)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["classifier"] == "mnist_mlp" and 0 < manifest["accuracy"] <= 1
    assert abs(manifest["accuracy"] - manifest["classifier_accuracy"]) <= 0.01
    assert manifest["steps"]["digit_image"] == versions("digit_image", scratch_repository)[-1]
    assert "file" not in manifest and manifest["test_images"] == 360
    out = capsys.readouterr().out
    assert f"digit_image_bytes version 70: test accuracy {manifest['accuracy']:.2%} on 360 images" in out
    assert f"; mnist_mlp: {manifest['classifier_accuracy']:.2%}" in out
    assert len(list((tmp_path / "samples" / "digit_image_bytes").rglob("*.png"))) == 50


def test_exporting_a_member_again_gives_notice_to_prove_its_pipelines_again(
    run: Export, scratch_repository: Path, capsys: Printed
) -> None:
    assert run("digit_label", "--version=70") == 0
    notice = "notice: digit_image_bytes: proven with older versions of their members; run `python -m tools.export dig"
    assert notice in capsys.readouterr().err
    assert run("digit_image_bytes") == 0
    assert "proven with older versions" not in capsys.readouterr().err
    assert pipelines.outdated(scratch_repository) == []


def test_framed_pictures_get_the_bare_classifier_s_label(built: Path) -> None:
    data = pipelines.data_of("digit_image", built)
    bare = pipelines.compose("mnist_mlp", built)
    inputs = training.inputs(data.test_images, training.input_spec("mnist_mlp", built)).numpy()
    alone = bare({"INPUT__0": inputs})["OUTPUT__0"].argmax(1)
    assert (pipelines.predictions("digit_image", data, built) == alone).mean() > 0.98


def test_pictures_of_the_classifier_s_size_get_exactly_its_label(built: Path) -> None:
    data = pipelines.data_of("cifar10_image", built)
    bare = pipelines.compose("cifar10_cnn", built)
    inputs = training.inputs(data.test_images, training.input_spec("cifar10_cnn", built)).numpy()
    alone = bare({"INPUT__0": inputs})["OUTPUT__0"].argmax(1)
    assert np.array_equal(pipelines.predictions("cifar10_image", data, built), alone)


def test_a_step_is_published_with_the_classifier_it_prepares_for(run: Export, scratch_repository: Path) -> None:
    assert run("digit_prepare", "classification", "image_decode", "--version=70") == 0
    prepare, answer, decode = (
        read_manifest(model, 70, scratch_repository) for model in ("digit_prepare", "classification", "image_decode")
    )
    assert prepare["prepares"] == "mnist_mlp" and "prepares" not in answer
    assert prepare["max_abs_difference"] == answer["max_abs_difference"] == 0
    assert decode["sources"]["decoding.py"] == "clients/decoding.py"
    assert [file["name"] for file in decode["files"]] == ["decoding.py", "model.py", "step.py"]
    for manifest in (prepare, answer, decode):
        assert manifest["golden"]["name"] == "golden.npz"
        folder = version_path(manifest["model"], 70, scratch_repository)
        assert_golden(manifest["model"], folder, scratch_repository)


def test_a_step_follows_its_classifier_s_config(run: Export, scratch_repository: Path) -> None:
    config = scratch_repository / "cifar10_cnn" / "config.pbtxt"
    config.write_text(config.read_text().replace('"0.5,0.5,0.5"', '"0,0,0"', 1))
    assert run("cifar10_prepare", "--version=70") == 0
    black = {"INPUT__0": np.zeros((1, 32, 32, 3), np.uint8)}
    assert not pipelines.compose("cifar10_prepare", scratch_repository)(black)["OUTPUT__0"].any()


def test_a_member_without_a_version_is_named_with_the_command(
    run: Export, scratch_repository: Path, capsys: Printed
) -> None:
    for version in versions("digit_prepare", scratch_repository):
        shutil.rmtree(version_path("digit_prepare", version, scratch_repository))
    assert run("digit_image") == 2
    assert "digit_prepare has no version, but a pipeline needs one; run `python -m tools.export digit_prepare`" in (
        capsys.readouterr().err
    )
    with pytest.raises(RepositoryError, match="digit_prepare has no version"):
        pipelines.compose("digit_image", scratch_repository)


def test_a_pipeline_that_loses_too_much_is_refused(
    run: Export, scratch_repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    before, load = versions("digit_image", scratch_repository), recipes.load
    strict = Pipeline(budget=-1.0)
    monkeypatch.setattr(recipes, "load", lambda model: strict if model == "digit_image" else load(model))
    assert run("digit_image") == 1
    assert "the recipe's budget is -100.00%" in capsys.readouterr().err
    assert versions("digit_image", scratch_repository) == before


def test_a_pipeline_s_own_labels_must_equal_its_classifier_s(scratch_repository: Path) -> None:
    prove_labels("digit_image", "mnist_mlp", scratch_repository)
    prove_labels("digit_image_bytes", "mnist_mlp", scratch_repository)
    labels = scratch_repository / "digit_image" / "labels.txt"
    labels.write_text(labels.read_text()[::-1])
    with pytest.raises(ProofError, match=f"{labels} differs from .*mnist_mlp/labels.txt; copy that file"):
        prove_labels("digit_image", "mnist_mlp", scratch_repository)


def test_a_python_step_that_imports_anything_missing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "step.py").write_text("import no_such_module")
    with pytest.raises(ProofError, match="step.py cannot be imported by itself: No module named 'no_such_module'"):
        pipelines.python_step(tmp_path)
