"""Untrained models for the checks on a GPU: the committed configs, networks as the recipes build them."""

import shutil
from pathlib import Path

import torch
from torch import nn

from tools.features import WithFeatures
from tools.recipes import Recipe
from tools.recipes.cifar10_cnn import RECIPE as CNN
from tools.recipes.mnist_mlp import RECIPE as MLP
from tools.recipes.resnet18 import RECIPE as RESNET
from tools.repository import REPOSITORY
from tools.torchscript import trace

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Cast(nn.Module):
    """A network that computes in another precision; images and logits stay float32."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network.to(dtype), dtype

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[N, 3, 224, 224] float32 to [N, 10] float32."""
        logits: torch.Tensor = self.network(images.to(self.dtype))
        return logits.to(torch.float32)


def networks() -> dict[str, nn.Module]:
    """Every network by the name under which it is served; the same weights each time."""
    made: dict[str, nn.Module] = {"mnist_mlp": WithFeatures(_seeded(MLP)), "cifar10_cnn": WithFeatures(_seeded(CNN))}
    for name, dtype in PRECISIONS.items():
        made[f"resnet18_{name}"] = Cast(_seeded(RESNET), dtype)
    return made


def write(repository: Path) -> Path:
    """Write all models with their committed configs, and each once more with two instances on a device."""
    for name, network in networks().items():
        committed = REPOSITORY / ("resnet18" if name.startswith("resnet18") else name) / "config.pbtxt"
        model, _ = trace(network, [images(name, 2)])
        for served, count in ((name, 1), (f"{name}_twice", 2)):
            folder = repository / served
            (folder / "1").mkdir(parents=True)
            text = committed.read_text()
            first = next(line for line in text.splitlines() if line.startswith("name:"))
            (folder / "config.pbtxt").write_text(
                text.replace(first, f'name: "{served}"').replace("count: 1", f"count: {count}")
            )
            shutil.copy(committed.parent / "labels.txt", folder)
            model.save(str(folder / "1" / "model.pt"))
    return repository


def _seeded(recipe: Recipe) -> nn.Module:
    assert recipe.network
    torch.manual_seed(0)
    return recipe.network().eval()


def _shape(name: str) -> tuple[int, ...]:
    return {"mnist_mlp": (784,), "cifar10_cnn": (3, 32, 32)}.get(name.removesuffix("_twice"), (3, 224, 224))


def images(name: str, count: int) -> torch.Tensor:
    """[count, …] float32 in 0 to 1, of the shape that the model takes."""
    return torch.rand(count, *_shape(name), generator=torch.Generator().manual_seed(count))
