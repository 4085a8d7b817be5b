"""cifar10_cnn_wide: a wider and deeper network with batch normalisation, which teaches cifar10_cnn_distilled."""

import torch
from torch import nn

from tools.recipes import Recipe


def block(channels_in: int, channels_out: int) -> nn.Sequential:
    """A 3x3 convolution, normalised, and a pooling that halves the maps."""
    convolution = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out), nn.ReLU(), nn.MaxPool2d(2))


class WideCNN(nn.Module):
    """Three blocks of 32, 64 and 128 channels, two linear layers: [N, 3, 32, 32] float32 to [N, 10] logits."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(block(3, 32), block(32, 64), block(64, 128))
        self.head = nn.Sequential(nn.Linear(2048, 256), nn.ReLU(), nn.Dropout(0.3), nn.Linear(256, 10))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits of the ten classes."""
        return self.head(torch.flatten(self.blocks(image), 1))


RECIPE = Recipe(
    network=WideCNN,
    epochs=6,
    batch_size=64,
    floors={"cifar10": 0.65, "silhouettes": 0.90},
    default=False,
)
