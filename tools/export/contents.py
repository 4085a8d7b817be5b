"""What goes into a version's folder, for each kind of recipe: written, proven, and described for its manifest.

Each function here fills an empty folder that `tools.export` publishes afterwards, and raises ProofError if it must not.
"""

import copy
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from tools import recipes, torchscript
from tools.contract import read_contract
from tools.datasets import ImageData
from tools.export import pipelines, proof
from tools.recipes import Pipeline, PythonStep, RecipeError, Step
from tools.repository import MODEL_FILE, ROOT, version_path
from tools.train import training
from tools.train.training import Trained


def write_network(
    network: nn.Module,
    folder: Path,
    model: str,
    repository: Path,
    tolerance: float,
    dims: Sequence[Mapping[str, tuple[int, ...]]] = (),
) -> float:
    """Write a network as TorchScript and prove it; returns how far it is from eager at most."""
    file = folder / MODEL_FILE
    proof.prove_scriptable(network, file, model)
    proof.prove_device(torchscript.load(file), model, repository)
    return proof.prove_same(network, file, model, repository, tolerance, dims)


def finished(trained: Trained, repository: Path) -> nn.Module:
    """The network that is served: the trained one after its recipe's last change."""
    model = trained.settings.model
    samples = training.samples(trained.data, training.input_spec(model, repository))
    return recipes.trained(model).after(copy.deepcopy(trained.network), samples)


def step_network(step: Step, repository: Path) -> nn.Module:
    """The network of a step; only one that prepares a classifier's input is told how that wants it."""
    details = [training.input_spec(step.prepares, repository)] if step.prepares else []
    return step.network(*details)


def fill_trained(trained: Trained, repository: Path, folder: Path) -> dict[str, Any]:
    """Write and prove a trained network; what it was trained on, and how well it does."""
    model, data = trained.settings.model, trained.data
    recipe, spec = recipes.trained(model), training.input_spec(model, repository)
    difference = write_network(finished(trained, repository), folder, model, repository, recipe.tolerance)
    accuracy = training.accuracy(torchscript.load(folder / MODEL_FILE), data.test_images, data.test_labels, spec)
    proof.prove_accuracy(model, data.name, accuracy, dict(recipe.floors or {}))
    if recipe.parent and recipe.budget is not None and trained.parent_accuracy is not None:
        proof.prove_budget(model, recipe.parent, accuracy, trained.parent_accuracy, recipe.budget)
    settings = {key: value for key, value in asdict(trained.settings).items() if key not in ("model", "data")}
    return {
        **(
            {"parent": recipe.parent, "parent_accuracy": round(trained.parent_accuracy or 0, 6)}
            if recipe.parent
            else {}
        ),
        **({"teacher": recipe.teacher} if recipe.teacher else {}),
        "training": settings,
        "checkpoint": trained.checkpoint,
        "data": about(data),
        "accuracy": round(accuracy, 6),
        "test_images": len(data.test_labels),
        "parameters": sum(parameter.numel() for parameter in trained.network.parameters()),
        "max_abs_difference": difference,
    }


def fill_step(model: str, step: Step, repository: Path, folder: Path) -> dict[str, Any]:
    """Write and prove a network that learns nothing."""
    network = step_network(step, repository)
    only = read_contract(model, repository).inputs[0].name
    dims = [{only: shape} for shape in step.dims]
    return {
        **({"prepares": step.prepares} if step.prepares else {}),
        "max_abs_difference": write_network(network, folder, model, repository, proof.TOLERANCE, dims),
    }


def fill_python_step(model: str, step: PythonStep, repository: Path, folder: Path) -> dict[str, Any]:
    """Put a Python step's files side by side and see that they need nothing else."""
    sources = {name: ROOT / path for name, path in step.files.items()}
    if step.labels_of:
        sources["labels.txt"] = repository / step.labels_of / "labels.txt"
    for name, source in sources.items():
        if not source.is_file():
            raise RecipeError(f"{model}: {source} does not exist; correct its recipe")
        shutil.copyfile(source, folder / name)
    pipelines.python_step(folder)
    return {"sources": {name: str(path) for name, path in step.files.items()}}


def fill_pipeline(model: str, pipeline: Pipeline, data: ImageData, repository: Path, folder: Path) -> dict[str, Any]:
    """See that an ensemble answers as well as the classifier in it; it has no file of its own."""
    del folder
    steps = {member: pipelines.newest(member, repository) for member in pipelines.all_members(model, repository)}
    classifier = pipelines.classifier_of(model, repository)
    proof.prove_labels(model, classifier, repository)
    bare = torchscript.load(version_path(classifier, steps[classifier], repository) / MODEL_FILE)
    alone = training.accuracy(bare, data.test_images, data.test_labels, training.input_spec(classifier, repository))
    accuracy = float((pipelines.predictions(model, data, repository) == data.test_labels).mean())
    proof.prove_budget(model, classifier, accuracy, alone, pipeline.budget)
    return {
        "steps": steps,
        "classifier": classifier,
        "classifier_accuracy": round(alone, 6),
        "data": about(data),
        "accuracy": round(accuracy, 6),
        "test_images": len(data.test_labels),
    }


def about(data: ImageData) -> dict[str, Any]:
    """Which data a figure was taken on."""
    return {"name": data.name, "title": data.title, "stand_in": data.stand_in, "sha256": data.sha256}
