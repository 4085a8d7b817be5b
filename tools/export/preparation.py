"""Preparing a version of a model: trained, imported, composed or copied, as its kind of recipe says.

`prepare` does what must happen first (a training, say) and returns how to fill the version's folder. Filling writes
the files, proves them and raises ProofError if they must not be served; `publication.publish` calls it.
"""

import copy
import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from torch import nn

from clients.images import ImageSpec, scale_and_offset
from tools import recipes, torchscript
from tools.contract import read_contract
from tools.datasets import ImageData
from tools.export import golden, pipelines, proof
from tools.export.agreement import TOLERANCE
from tools.export.conversion import fill_imported
from tools.export.publication import Evidence, Fill
from tools.export.samples import Samples
from tools.language import folder as language_folder
from tools.language.config import write_missing_config
from tools.language.source import Source, find_weights
from tools.recipes import Imported, LanguageModel, Pipeline, PythonStep, Recipe, RecipeError, Step
from tools.repository import MODEL_FILE, ROOT, next_version, version_path
from tools.train import training
from tools.train.settings import TrainOptions
from tools.train.training import Trained


def prepare(
    model: str, options: TrainOptions, repository: Path, version: int | None = None
) -> tuple[Fill, ImageData | None]:
    """Train a model, or load its classifier's data; return how to fill a version, and the data for its test, if any.

    Raises:
        RecipeError, RepositoryError, DataError: the recipe, the model's config or its data cannot be used.
        LanguageError: a language model's weights cannot be had.
    """
    recipe = recipes.load(model)
    if isinstance(recipe, Recipe):
        trained = training.train_model(model, options, repository)
        return partial(_fill_trained, trained, repository), trained.data
    if isinstance(recipe, Pipeline):
        data = pipelines.data_of(model, repository)
        return partial(_fill_pipeline, model, recipe, data, repository), data
    if isinstance(recipe, Imported):
        return partial(fill_imported, model, recipe, repository), None
    if isinstance(recipe, Step):
        return partial(_fill_step, model, recipe, repository), None
    if isinstance(recipe, LanguageModel):
        weights = find_weights(model, recipe, options.weights, repository)
        write_missing_config(model, weights, repository)
        parts = (model, recipe, weights, version or next_version(model, repository), repository)
        return partial(_fill_language_model, *parts), None
    return partial(_fill_python_step, model, recipe, repository), None


def final_network(trained: Trained, repository: Path) -> nn.Module:
    """Apply the recipe's `after` to a trained network: the network that is served."""
    model = trained.settings.model
    samples = training.samples(trained.data, training.input_spec(model, repository))
    # A pruning mask computes the weights in each forward. Those of one with gradients could not be copied.
    with torch.no_grad():
        trained.network(samples[:1])
    return recipes.trained(model).after(copied(trained.network), samples)


def copied(network: nn.Module) -> nn.Module:
    """A copy, also where pruning computes the weights: those carry gradients, and cannot be copied as they are."""
    for module in network.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                setattr(module, name, value.detach())
    return copy.deepcopy(network)


def step_network(step: Step, repository: Path) -> nn.Module:
    """Build the network of a step."""
    return step.network(*([training.input_spec(step.prepares, repository)] if step.prepares else []))


def _write_network(
    network: nn.Module,
    file: Path,
    model: str,
    repository: Path,
    tolerance: float,
    samples: Samples | None = None,
) -> float:
    # Returns the largest difference from eager.
    proof.prove_scriptable(network, file, model)
    proof.prove_device(torchscript.load(file), model, repository)
    return proof.prove_same(network, file, model, repository, tolerance, samples)


def _eager(network: nn.Module, folder: Path, model: str, repository: Path) -> pipelines.Run:
    return pipelines.array_function(network, torchscript.load(folder / MODEL_FILE), model, repository)


def _fill_trained(trained: Trained, repository: Path, folder: Path) -> Evidence:
    model, data = trained.settings.model, trained.data
    recipe, spec = recipes.trained(model), training.input_spec(model, repository)
    file, network = folder / MODEL_FILE, final_network(trained, repository)
    # Whatever clients send is a picture, prepared as the config says.
    samples = Samples(ranges={read_contract(model, repository).inputs[0].name: _pixels(spec)})
    difference = _write_network(network, file, model, repository, recipe.tolerance, samples)
    accuracy = training.accuracy(torchscript.load(file), data.test_images, data.test_labels, spec)
    if accuracy < (floor := (recipe.floors or {}).get(data.name, 0.0)):
        raise proof.ProofError(
            f"{model}: test accuracy {accuracy:.2%} on {data.name} is below the recipe's floor of {floor:.2%}"
        )
    if recipe.parent and recipe.budget is not None and trained.parent_accuracy is not None:
        proof.prove_budget(model, recipe.parent, accuracy, trained.parent_accuracy, recipe.budget)
    images = data.test_images[golden.chosen(len(data.test_images))]
    inputs = {name: training.inputs(images, spec).numpy() for name in samples.ranges}
    golden.write(folder, _eager(network, folder, model, repository), golden.rows(inputs), recipe.tolerance)
    return Evidence(
        parent=recipe.parent,
        parent_accuracy=round(trained.parent_accuracy or 0, 6) if recipe.parent else None,
        teacher=recipe.teacher,
        training={key: value for key, value in asdict(trained.settings).items() if key not in ("model", "data")},
        checkpoint=trained.checkpoint,
        data=data.reference,
        accuracy=round(accuracy, 6),
        test_images=len(data.test_labels),
        parameters=sum(parameter.numel() for parameter in trained.network.parameters()),
        max_abs_difference=difference,
    )


def _pixels(spec: ImageSpec) -> tuple[float, float]:
    # The least and the largest value of a prepared pixel.
    scale, offset = scale_and_offset(spec)
    return float(offset.min()), float((255 * scale + offset).max())


def _fill_step(model: str, step: Step, repository: Path, folder: Path) -> Evidence:
    contract, network = read_contract(model, repository), step_network(step, repository)
    samples = Samples([{contract.inputs[0].name: shape} for shape in step.dims])
    difference = _write_network(network, folder / MODEL_FILE, model, repository, TOLERANCE, samples)
    golden.write(folder, _eager(network, folder, model, repository), golden.drawn(contract, samples), TOLERANCE)
    return Evidence(prepares=step.prepares, max_abs_difference=difference)


def _fill_python_step(model: str, step: PythonStep, repository: Path, folder: Path) -> Evidence:
    sources = {name: ROOT / path for name, path in step.files.items()}
    if step.labels_of:
        sources["labels.txt"] = repository / step.labels_of / "labels.txt"
    for name, source in sources.items():
        if not source.is_file():
            raise RecipeError(f"{model}: {source} does not exist; correct its recipe")
        shutil.copyfile(source, folder / name)
    run = pipelines.python_step(folder).run
    golden.write(folder, run, golden.for_step(read_contract(model, repository)), TOLERANCE)
    return Evidence(sources=step.files)


def _fill_language_model(
    model: str, recipe: LanguageModel, weights: Source, version: int, repository: Path, folder: Path
) -> Evidence:
    published = language_folder.fill(read_contract(model, repository), recipe, weights, version, folder)
    return Evidence(parent=recipe.parent, parameters=published.parameters, language=published.document())


def _fill_pipeline(model: str, pipeline: Pipeline, data: ImageData, repository: Path, folder: Path) -> Evidence:
    steps = {member: pipelines.newest(member, repository) for member in pipelines.all_members(model, repository)}
    classifier = pipelines.classifier_of(model, repository)
    proof.prove_labels(model, classifier, repository)
    bare = torchscript.load(version_path(classifier, steps[classifier], repository) / MODEL_FILE)
    alone = training.accuracy(bare, data.test_images, data.test_labels, training.input_spec(classifier, repository))
    accuracy = float((pipelines.predictions(model, data, repository) == data.test_labels).mean())
    proof.prove_budget(model, classifier, accuracy, alone, pipeline.budget)
    images, tolerance = data.test_images[golden.chosen(len(data.test_images))], recipes.trained(classifier).tolerance
    inputs = pipelines.inputs_of(model, images, repository)
    golden.write(folder, pipelines.compose(model, repository), golden.rows(inputs), tolerance)
    return Evidence(
        steps=steps,
        classifier=classifier,
        classifier_accuracy=round(alone, 6),
        data=data.reference,
        accuracy=round(accuracy, 6),
        test_images=len(data.test_labels),
    )
