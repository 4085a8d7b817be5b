"""Train a model by its recipe: `python -m tools.train mnist_mlp`.

Writes a checkpoint at the end of every epoch to build/checkpoints/, so that an interrupted training goes on where
it stopped and a finished one costs nothing the next time. The same settings give the same weights on the same
machine. `python -m tools.export` calls this when it needs weights, so you rarely run it yourself.

    python -m tools.train cifar10_cnn --data cifar10 --epochs 20
"""

import argparse
import hashlib
import json
import os
import pickle
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from clients.errors import InvalidInput
from clients.images import ImageSpec, image_spec, normalise
from tools import datasets, recipes
from tools.contract import read_contract
from tools.datasets import DataError, ImageData
from tools.recipes import Recipe, RecipeError
from tools.repository import REPOSITORY, ROOT, RepositoryError

CHECKPOINTS = ROOT / "build" / "checkpoints"


@dataclass(frozen=True)
class Settings:
    """What decides the weights, besides the recipe's code and the data."""

    model: str
    data: str
    epochs: int
    batch_size: int
    lr: float
    seed: int
    device: str


@dataclass(frozen=True)
class Trained:
    """A trained network and what it was trained on and with."""

    settings: Settings
    network: nn.Module
    data: ImageData
    accuracy: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that training and everything that may train share."""
    parser.add_argument(
        "--data",
        default="auto",
        help="data set, e.g. mnist, digits, cifar10, silhouettes; auto is the "
        "real one if it is there or can be downloaded, else its stand-in (default: %(default)s)",
    )
    parser.add_argument("--epochs", type=positive, help="passes over the training set (default: the recipe's)")
    parser.add_argument("--batch-size", type=positive, help="images per step (default: the recipe's)")
    parser.add_argument("--lr", type=positive_float, help="learning rate (default: the recipe's)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and of the order (default: %(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: %(default)s)")
    parser.add_argument("--fresh", action="store_true", help="ignore an earlier checkpoint and begin again")


def positive(text: str) -> int:
    """A whole number above zero from the command line."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got '{text}'")
    return int(text)


def positive_float(text: str) -> float:
    """A number above zero from the command line."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got '{text}'")
    return value


def settings_from(arguments: argparse.Namespace, model: str, data: ImageData) -> Settings:
    """Fill in what the command line leaves to the recipe."""
    recipe = recipes.load(model)
    device = arguments.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return Settings(
        model,
        data.name,
        arguments.epochs or recipe.epochs,
        arguments.batch_size or recipe.batch_size,
        arguments.lr or recipe.lr,
        arguments.seed,
        device,
    )


def load_data(recipe: Recipe, name: str) -> ImageData:
    """The data set asked for, or for `auto` the first of the recipe's that can be had."""
    return datasets.load_first(recipe.data) if name == "auto" else datasets.load(name)


def input_spec(model: str, repository: Path = REPOSITORY) -> ImageSpec:
    """How the model wants its images, from its config.

    Raises:
        RepositoryError: the config cannot be read or does not say it.
    """
    try:
        return image_spec(read_contract(model, repository))
    except InvalidInput as error:
        raise RepositoryError(str(error)) from error


def tensors(images: Any, labels: Any, spec: ImageSpec) -> tuple[Tensor, Tensor]:
    """Images as the model's input and their labels, by the same normalisation that clients use."""
    return torch.from_numpy(normalise(images, spec)), torch.from_numpy(labels)


def checkpoint_path(settings: Settings, data: ImageData, spec: ImageSpec) -> Path:
    """A file for each combination of recipe, settings, data and normalisation: none is taken for another's."""
    recipe = Path(recipes.__path__[0], f"{settings.model}.py").read_text()
    decisive = json.dumps([recipe, asdict(settings), data.sha256, asdict(spec)], sort_keys=True)
    return CHECKPOINTS / settings.model / f"{data.name}-{hashlib.sha256(decisive.encode()).hexdigest()[:12]}.pt"


@torch.no_grad()
def accuracy(network: nn.Module, inputs: Tensor, labels: Tensor, batch_size: int = 500) -> float:
    """Share of inputs whose largest logit is the label's."""
    right = sum(
        int((network(part).argmax(1) == truth).sum())
        for part, truth in zip(inputs.split(batch_size), labels.split(batch_size), strict=True)
    )
    return right / len(labels)


def train(settings: Settings, data: ImageData, fresh: bool = False, repository: Path = REPOSITORY) -> Trained:
    """Follow the recipe to the end, from the last checkpoint if there is one.

    Raises:
        RecipeError, RepositoryError: the recipe or the model's config cannot be used.
    """
    recipe = recipes.load(settings.model)
    spec = input_spec(settings.model, repository)
    torch.manual_seed(settings.seed)
    network = recipe.network().to(settings.device)
    optimizer = recipe.optimizer(network.parameters(), settings.lr)
    path = checkpoint_path(settings, data, spec)
    done = 0 if fresh else resume(path, network, optimizer, settings)
    if done < settings.epochs:
        inputs, labels = (part.to(settings.device) for part in tensors(data.train_images, data.train_labels, spec))
        for epoch in range(done, settings.epochs):
            train_epoch(network, optimizer, inputs, labels, settings, epoch)
            save(path, network, optimizer, epoch + 1)
    network.cpu().eval()
    score = accuracy(network, *tensors(data.test_images, data.test_labels, spec))
    return Trained(settings, network, data, score)


def train_epoch(
    network: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor, labels: Tensor, settings: Settings, epoch: int
) -> None:
    """One pass over the training set, with a progress bar."""
    network.train()
    # Seeded per epoch: a resumed training sees the order, and draws the dropout, of an uninterrupted one.
    torch.manual_seed(settings.seed * 100_003 + epoch)
    batches = list(torch.randperm(len(labels)).split(settings.batch_size))
    title = f"{settings.model} epoch {epoch + 1}/{settings.epochs}"
    with tqdm(batches, desc=title, unit="batch", leave=False, mininterval=0.5) as progress:
        for indices in progress:
            loss = cross_entropy(network(inputs[indices]), labels[indices])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    print(f"{title}: loss {loss.item():.4f}", file=sys.stderr)


def save(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, epochs: int) -> None:
    """Write a checkpoint beside its place, then rename: an interruption leaves the previous one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_suffix(f".{os.getpid()}")
    torch.save({"epochs": epochs, "network": network.state_dict(), "optimizer": optimizer.state_dict()}, staged)
    staged.replace(path)


def resume(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, settings: Settings) -> int:
    """Load the checkpoint if there is one; returns the epochs that it has seen.

    Raises:
        RecipeError: the file is damaged.
    """
    if not path.is_file():
        return 0
    try:
        checkpoint = torch.load(path, map_location=settings.device, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise RecipeError(f"the checkpoint {path} is damaged; begin again with --fresh") from error
    network.load_state_dict(checkpoint["network"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    return int(checkpoint["epochs"])


def train_from(arguments: argparse.Namespace, model: str, repository: Path = REPOSITORY) -> Trained:
    """Train as the command line says."""
    data = load_data(recipes.load(model), arguments.data)
    return train(settings_from(arguments, model, data), data, arguments.fresh, repository)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m tools.train", description=__doc__.split("\n")[0])
    parser.add_argument("model", help=f"one of {', '.join(recipes.names())}")
    add_arguments(parser)
    arguments = parser.parse_args()
    try:
        trained = train_from(arguments, arguments.model)
    except (RecipeError, DataError, RepositoryError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; the same command goes on after the last finished epoch", file=sys.stderr)
        return 130
    count = len(trained.data.test_labels)
    print(f"{arguments.model}: test accuracy {trained.accuracy:.2%} of {count} images of {trained.data.title}")
    print(json.dumps({"model": arguments.model, "accuracy": trained.accuracy, **asdict(trained.settings)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
