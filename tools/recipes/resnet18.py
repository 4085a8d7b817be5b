"""resnet18: torchvision's ResNet-18 with ten classes, at 3x224x224: a network of a size at which compression pays.

It takes minutes to train, so `make build` leaves it out, and learns from and is tested on a part of the data. With
`--weights IMAGENET1K_V1` it begins from torchvision's pretrained weights, where they can be had, or from a file of
such weights, and only its last layer from scratch.

    python -m tools.export resnet18
"""

from pathlib import Path

import torch
from torch import nn

from tools.recipes import Recipe
from tools.torchvision_import import load_torchvision

CLASSES = 10


def resnet18() -> nn.Module:
    """The network, untrained: [N, 3, 224, 224] float32 to [N, 10] logits."""
    network: nn.Module = load_torchvision().models.resnet18(num_classes=CLASSES)
    # The layout that convolutions on CPUs and tensor cores want; results are the same.
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def pretrained(weights: str) -> nn.Module:
    """The network with somebody's weights in all layers but the last, which depends on the classes.

    Args:
        weights: a file with the state dict of torchvision's resnet18, or a name of weights that torchvision downloads.
    """
    network = resnet18()
    if Path(weights).is_file():
        state = torch.load(weights, map_location="cpu", weights_only=True)
    else:
        state = load_torchvision().models.get_weight(f"ResNet18_Weights.{weights}").get_state_dict(check_hash=True)
    own = network.state_dict()
    network.load_state_dict({**state, "fc.weight": own["fc.weight"], "fc.bias": own["fc.bias"]})
    return network


RECIPE = Recipe(
    network=resnet18,
    pretrained=pretrained,
    epochs=6,
    # A 64-pixel image costs a twelfth of a 224-pixel one; the last two get the network used to the size served.
    sizes=(64, 64, 112, 112),
    images=(6000, 1000),
    batch_size=32,
    autocast=True,
    threads=None,
    floors={"cifar10": 0.40, "silhouettes": 0.70},
    default=False,
)
