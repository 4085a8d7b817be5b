"""What decides a training's outcome besides recipe and data, and the command-line options for it."""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from clients.command import positive, positive_float
from tools import recipes
from tools.datasets import ImageData
from tools.repository import REPOSITORY, read_manifest, versions


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
    weights: str | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that training and everything that may train share."""
    parser.add_argument(
        "--data",
        default="auto",
        help="data set, e.g. mnist, digits, cifar10, silhouettes; auto is the "
        "real one if it is there, else its stand-in (default: %(default)s)",
    )
    parser.add_argument("--epochs", type=positive, help="passes over the training set (default: the recipe's)")
    parser.add_argument("--batch-size", type=positive, help="images per step (default: the recipe's)")
    parser.add_argument("--lr", type=positive_float, help="learning rate (default: the recipe's)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and of the order (default: %(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: %(default)s)")
    parser.add_argument(
        "--weights",
        metavar="NAME|FILE",
        help="begin from weights that exist, where the recipe knows how: a name of torchvision's, which is downloaded, "
        "or a file of them; a variant begins as its parent (default: from scratch)",
    )
    parser.add_argument("--fresh", action="store_true", help="ignore an earlier checkpoint and begin again")


def settings_from(arguments: argparse.Namespace, model: str, data: ImageData) -> Settings:
    """Fill in what the command line leaves to the recipe."""
    recipe = recipes.trained(model)
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
        None if recipe.parent else arguments.weights,
    )


def settings_of_ancestor(model: str, settings: Settings, repository: Path = REPOSITORY) -> Settings:
    """How a variant's parent or teacher was trained: as its newest version says, else as its recipe does."""
    recipe = recipes.trained(model)
    published = versions(model, repository)
    manifest = read_manifest(model, published[-1], repository) if published else {}
    if manifest.get("data", {}).get("name") == settings.data:
        names = {field.name for field in fields(Settings)} - {"model", "data", "device"}
        training = {name: manifest["training"][name] for name in names if name in manifest["training"]}
        return Settings(model, settings.data, device=settings.device, **training)
    return Settings(model, settings.data, recipe.epochs, recipe.batch_size, recipe.lr, settings.seed, settings.device)
