"""The training of a model by its recipe: data, epochs, checkpoints, distillation."""

import copy
import math
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from clients.command import progress, say
from clients.errors import InvalidInput
from clients.images import ImageSpec, image_spec, normalise
from tools import datasets, recipes
from tools.contract import read_contract
from tools.datasets import ImageData, Images, Labels
from tools.recipes import Recipe, RecipeError
from tools.repository import REPOSITORY, RepositoryError
from tools.torchscript import outputs
from tools.train.checkpoints import checkpoint_path, resume, save
from tools.train.settings import Settings, TrainOptions, settings_for, settings_of_ancestor


@dataclass(frozen=True)
class Trained:
    """A trained network, before its recipe's `after`, and what it was trained on and with."""

    settings: Settings
    network: nn.Module
    data: ImageData
    accuracy: float
    lineage: tuple[Settings, ...]  # Of this training, then of the parent and the teacher that it builds on.
    checkpoint: str  # Name of the file with the weights; it changes with anything that decides them.
    parent_accuracy: float | None = None  # Test accuracy of the parent's network.


class UnfinishedError(RecipeError):
    """The training has not finished, and the caller wanted finished weights only."""


def load_data(recipe: Recipe, name: str) -> ImageData:
    """Load a data set by name, or for `auto` the first of the recipe's that is available; no more than it uses."""
    data = datasets.load_first(recipe.data) if name == "auto" else datasets.load(name)
    return datasets.first(data, *recipe.limits) if recipe.limits else data


def input_spec(model: str, repository: Path = REPOSITORY) -> ImageSpec:
    """Read from a model's config how images become its input; RepositoryError if it cannot be read or does not say."""
    try:
        return image_spec(read_contract(model, repository))
    except InvalidInput as error:
        raise RepositoryError(str(error)) from error


def inputs(images: Images, spec: ImageSpec, size: int | None = None) -> Tensor:
    """Turn uint8 [N, H, W, C] into float32 [N, C, H, W], or [N, C*H*W] for a flat input, normalised as clients do.

    Images are resized to the spec's sides, or to `size` pixels on each side.
    """
    tensor = torch.from_numpy(normalise(images, spec))
    wanted = (size, size) if size else (spec.height, spec.width)
    if spec.flat or tensor.shape[2:] == wanted:
        return tensor
    return interpolate(tensor, size=wanted, mode="bilinear", antialias=True)


def accuracy(network: nn.Module, images: Images, labels: Labels, spec: ImageSpec, batch_size: int = 100) -> float:
    """Share of images for which the label has the largest logit in the network's first output."""
    starts = range(0, len(labels), batch_size)
    chosen = [outputs(network, inputs(images[at : at + batch_size], spec))[0].argmax(1) for at in starts]
    return float((torch.cat(chosen).numpy() == labels).mean())


def samples(data: ImageData, spec: ImageSpec) -> Tensor:
    """The training inputs that a recipe's `before` and `after` get: enough to observe the ranges of activations."""
    return inputs(data.train_images[:512], spec)


def train_model(model: str, options: TrainOptions, repository: Path = REPOSITORY) -> Trained:
    """Load the data and train a model as a command line asks; raise as `train` does, or DataError without the data."""
    data = load_data(recipes.trained(model), options.data)
    return train(settings_for(model, options, data), data, options.fresh, repository)


def train(
    settings: Settings, data: ImageData, fresh: bool = False, repository: Path = REPOSITORY, rebuild: bool = False
) -> Trained:
    """Follow the recipe to the end, from the last checkpoint unless `fresh`; parent and teacher come first.

    With `rebuild`, only load the weights of finished trainings; accuracies are not measured (NaN).

    Raises:
        RecipeError, RepositoryError: the recipe or the model's config cannot be used.
        UnfinishedError: `rebuild`, and an epoch is missing.
    """
    recipe, spec = recipes.trained(settings.model), input_spec(settings.model, repository)
    ancestors = {
        name: train(settings_of_ancestor(name, settings, repository), data, repository=repository, rebuild=rebuild)
        for name in (recipe.parent, recipe.teacher)
        if name
    }
    lineage = (settings, *(ancestral for ancestor in ancestors.values() for ancestral in ancestor.lineage))
    parent = ancestors.get(recipe.parent or "")
    torch.manual_seed(settings.seed)
    network = _initial_network(recipe, settings, parent, samples(data, spec)).to(settings.device)
    teacher = ancestors[recipe.teacher].network.to(settings.device) if recipe.teacher else None
    path = checkpoint_path(list(lineage), data, spec)
    with cpu_threads(recipe.threads):
        _run_epochs(_Course(recipe, settings, data, spec, network, teacher), path, fresh, rebuild)
        # Quantized ranges are learned from training images alone: what is tested now must not move them.
        network.cpu().eval().apply(torch.ao.quantization.disable_observer)
        score = math.nan if rebuild else accuracy(network, data.test_images, data.test_labels, spec)
    return Trained(settings, network, data, score, lineage, path.name, parent.accuracy if parent else None)


def _initial_network(recipe: Recipe, settings: Settings, parent: Trained | None, samples: Tensor) -> nn.Module:
    if settings.weights:
        return recipe.before(pretrained_network(recipe, settings), samples)
    if recipe.network:
        return recipe.before(recipe.network(), samples)
    if parent is None:
        raise RecipeError(f"{settings.model}: its recipe needs a `network`, or a `parent` to start from")
    return recipe.before(copy.deepcopy(parent.network), samples)


def pretrained_network(recipe: Recipe, settings: Settings) -> nn.Module:
    """Build the network with the weights that `settings.weights` names; RecipeError if it has none or they fail."""
    if recipe.pretrained is None:
        raise RecipeError(f"{settings.model} has no `pretrained` in its recipe, so --weights does not apply; omit it")
    try:
        return recipe.pretrained(settings.weights or "")
    except (OSError, RuntimeError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise RecipeError(f"{settings.model}: cannot load the weights {settings.weights}: {error}") from error


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Limit torch to this many CPU threads in the block; None leaves its setting alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class _Course:
    """What all epochs of one training share."""

    recipe: Recipe
    settings: Settings
    data: ImageData
    spec: ImageSpec
    network: nn.Module
    teacher: nn.Module | None


def _run_epochs(course: _Course, path: Path, fresh: bool, rebuild: bool) -> None:
    settings, network, sizes = course.settings, course.network, course.recipe.sizes
    optimizer = course.recipe.optimizer(network.parameters(), settings.lr)
    done = 0 if fresh or not settings.epochs else resume(path, network, optimizer, settings)
    if rebuild and done < settings.epochs:
        raise UnfinishedError(f"{settings.model}: expected {settings.epochs} epochs in {path}, found {done}")
    for epoch in range(done, settings.epochs):
        network.train()
        # Seeded per epoch: a resumed training sees the order, and draws the dropout, of an uninterrupted one.
        torch.manual_seed(settings.seed * 100_003 + epoch)
        batches = list(torch.randperm(len(course.data.train_labels)).split(settings.batch_size))
        title = f"{settings.model} epoch {epoch + 1}/{settings.epochs}"
        # Of all batches: the last one, of a few images, says little.
        total = torch.zeros((), device=settings.device)
        for indices in progress(batches, title):
            loss = _loss(course, indices, sizes[epoch] if epoch < len(sizes) else None)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(indices)
        say(f"{title}: mean loss {total.item() / len(course.data.train_labels):.4f}")
        save(path, network, optimizer, epoch + 1)


def _loss(course: _Course, indices: Tensor, size: int | None) -> Tensor:
    data, device = course.data, course.settings.device
    batch = inputs(data.train_images[indices.numpy()], course.spec, size).to(device)
    labels = torch.from_numpy(data.train_labels[indices.numpy()]).to(device)
    with torch.autocast(device, torch.bfloat16, enabled=course.recipe.autocast and _has_bfloat16(device)):
        logits = course.network(batch)
    logits = logits.float()
    if course.teacher is None or course.recipe.distillation is None:
        return cross_entropy(logits, labels)
    with torch.no_grad():
        teacher_logits = course.teacher(batch)
    return course.recipe.distillation(logits, labels, teacher_logits)


@cache
def _has_bfloat16(device: str) -> bool:
    # Without such instructions bfloat16 is emulated, and slower than float32.
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))
