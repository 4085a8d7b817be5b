"""What a recipe says about its training: image sizes, numbers of images, pretrained weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tools import datasets, recipes
from tools.datasets import ImageData
from tools.recipes import RecipeError
from tools.recipes.resnet18 import pretrained
from tools.torchvision_import import load_torchvision
from tools.train import training
from tools.train.settings import Settings
from tools.train.training import pretrained_network

pytestmark = pytest.mark.usefixtures("one_thread")
MODEL = "cifar10_cnn"
SETTINGS = Settings(MODEL, "random", epochs=3, batch_size=8, lr=1e-3, seed=0, device="cpu")
Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def checkpoints(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr("tools.train.checkpoints.CHECKPOINTS", tmp_path / "checkpoints")


@pytest.fixture
def data() -> ImageData:
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (24, 32, 32, 3), np.uint8), random.integers(0, 10, 24)
    return ImageData("random", "noise", True, tuple("0123456789"), images[:16], labels[:16], images, labels, "0" * 64)


class Recording(nn.Module):
    """Classifies images of any size and records the sizes and dtypes that it sees in training."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 10)
        self.sizes: list[int] = []
        self.dtypes: set[torch.dtype] = set()

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.layer(image.mean((2, 3)))
        if self.training:
            self.sizes.append(image.shape[2])
            self.dtypes.add(logits.dtype)
        return logits


def recorded(monkeypatch: Patch, data: ImageData, **changes: object) -> Recording:
    """Train by a changed recipe; returns the network with its records."""
    recipe = replace(recipes.trained(MODEL), network=Recording, **changes)  # type: ignore[arg-type]
    monkeypatch.setattr(recipes, "load", lambda _: recipe)
    network = training.train(SETTINGS, data).network
    assert isinstance(network, Recording)
    return network


def test_first_epochs_use_the_recipe_s_sizes_and_later_ones_the_served_size(
    monkeypatch: Patch, data: ImageData
) -> None:
    assert recorded(monkeypatch, data, sizes=(8, 16)).sizes == [8, 8, 16, 16, 32, 32]


@pytest.mark.parametrize("has", [True, False])
def test_training_uses_bfloat16_only_on_devices_that_support_it(has: bool, monkeypatch: Patch, data: ImageData) -> None:
    monkeypatch.setattr(training, "_has_bfloat16", lambda _: has)
    assert recorded(monkeypatch, data, autocast=True).dtypes == {torch.bfloat16 if has else torch.float32}


def test_recipes_limit_the_images_and_variants_inherit_the_limit() -> None:
    whole = datasets.load("silhouettes")
    train_images, test_images = recipes.trained("resnet18").limits or (0, 0)
    for model in ("resnet18", "resnet18_pruned50_int8"):
        part = training.load_data(recipes.trained(model), "silhouettes")
        assert len(part.train_labels) == len(part.train_images) == train_images < len(whole.train_labels)
        assert len(part.test_labels) == len(part.test_images) == test_images < len(whole.test_labels)
        assert part.sha256 == whole.sha256


def test_a_network_starts_from_a_file_of_weights_except_for_its_last_layer(tmp_path: Path) -> None:
    theirs = load_torchvision().models.resnet18().state_dict()
    torch.save(theirs, tmp_path / "weights.pth")
    own = pretrained(str(tmp_path / "weights.pth")).state_dict()
    assert own["fc.weight"].shape == (10, 512)
    assert all(torch.equal(own[name], theirs[name]) for name in theirs if not name.startswith("fc."))


@pytest.mark.parametrize(
    ("model", "content", "message"),
    [
        ("mnist_mlp", b"", "mnist_mlp has no `pretrained` in its recipe, so --weights does not apply; omit it"),
        ("resnet18", None, "resnet18: cannot load the weights .*nothing.pth: "),
        ("resnet18", b"no weights", "resnet18: cannot load the weights .*weights.pth: "),
    ],
)
def test_weights_that_cannot_be_loaded_are_named(
    model: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / ("nothing.pth" if content is None else "weights.pth")
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecipeError, match=message):
        pretrained_network(recipes.trained(model), replace(SETTINGS, model=model, weights=str(path)))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save({"other": torch.zeros(1)}, tmp_path / "weights.pth")
    with pytest.raises(RecipeError, match="cannot load the weights"):
        pretrained_network(
            recipes.trained("resnet18"),
            replace(SETTINGS, model="resnet18", weights=str(tmp_path / "weights.pth")),
        )


def test_pretrained_weights_have_their_own_checkpoint(tmp_path: Path, data: ImageData) -> None:
    file, spec = tmp_path / "weights.pth", training.input_spec(MODEL)
    paths = {training.checkpoint_path([SETTINGS], data, spec)}
    for content in (b"some", b"others"):
        file.write_bytes(content)
        paths.add(training.checkpoint_path([replace(SETTINGS, weights=str(file))], data, spec))
    assert len(paths) == 3
