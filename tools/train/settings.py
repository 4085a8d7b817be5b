"""What decides a training's outcome besides recipe and data, and the command-line options for it."""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path

from clients.command import positive, positive_float, seed
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


@dataclass(frozen=True)
class TrainOptions:
    """What a command line says about training; None leaves a value to the recipe."""

    data: str = "auto"  # A data set's name; "auto" is the recipe's real one if its files are there, else its stand-in.
    epochs: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    seed: int = 0
    device: str = "auto"  # "cpu", "cuda", or "auto" for CUDA where there is any.
    weights: str | None = None  # Pretrained weights to start from: a name of torchvision's, or a file.
    fresh: bool = False  # Ignore an earlier checkpoint.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `TrainOptions` to a command."""
    add = parser.add_argument
    text = "mnist, digits, cifar10 or silhouettes; auto is the real one if its files are there, else its stand-in"
    add("--data", default=TrainOptions.data, help=text)
    add("--epochs", type=positive, help="passes over the training set (default: the recipe's)")
    add("--batch-size", type=positive, help="images per step (default: the recipe's)")
    add("--lr", type=positive_float, help="learning rate (default: the recipe's)")
    add("--seed", type=seed, default=TrainOptions.seed, help="of weights and data order")
    add("--device", choices=("auto", "cpu", "cuda"), default=TrainOptions.device, help="where to train")
    add(
        "--weights",
        metavar="NAME|PATH",
        help="start from pretrained weights, if the recipe supports it: a name of torchvision's, which is downloaded, "
        "or a file; of a language model, a Hugging Face folder, a GGUF file or OWNER/NAME on a hub; a variant starts "
        "from its parent (default: train from scratch, or what the recipe names)",
    )
    add("--fresh", action="store_true", help="ignore an earlier checkpoint and start over")


def settings_for(model: str, options: TrainOptions, data: ImageData) -> Settings:
    """Fill in from the recipe what the options leave open; RecipeError if the model is unknown or not trained."""
    import torch

    recipe, device = recipes.trained(model), options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    epochs, batch_size = options.epochs or recipe.epochs, options.batch_size or recipe.batch_size
    weights = None if recipe.parent else options.weights
    return Settings(model, data.name, epochs, batch_size, options.lr or recipe.lr, options.seed, device, weights)


def settings_of_ancestor(model: str, settings: Settings, repository: Path = REPOSITORY) -> Settings:
    """Settings of a variant's parent or teacher: those of its newest version on the same data, else its recipe's."""
    recipe = recipes.trained(model)
    published = versions(model, repository)
    manifest = read_manifest(model, published[-1], repository) if published else {}
    if manifest.get("data", {}).get("name") == settings.data:
        names = {field.name for field in fields(Settings)} - {"model", "data", "device"}
        training = {name: manifest["training"][name] for name in names if name in manifest["training"]}
        return Settings(model, settings.data, device=settings.device, **training)
    return Settings(model, settings.data, recipe.epochs, recipe.batch_size, recipe.lr, settings.seed, settings.device)
