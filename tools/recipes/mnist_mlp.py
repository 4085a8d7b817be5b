"""mnist_mlp: a handwritten digit in 784 pixels, classified by a fully connected network.

python -m tools.export mnist_mlp
"""

import torch
from torch import nn
from torch.nn.functional import relu

from tools.features import with_features
from tools.recipes import Recipe


class SimpleNN(nn.Module):
    """Fully connected 784-256-128-10 with ReLU: [N, 784] float32 to [N, 10] logits."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 256)
        self.fc2 = nn.Linear(256, 128)
        self.fc3 = nn.Linear(128, 10)

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """Activations of the last hidden layer, [N, 128]."""
        return relu(self.fc2(relu(self.fc1(image))))

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Logits of the ten digits."""
        return self.fc3(features)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits of the ten digits."""
        return self.classify(self.features(image))


RECIPE = Recipe(
    network=SimpleNN,
    floors={"mnist": 0.97, "digits": 0.94},
    epochs=10,
    batch_size=64,
    lr=1e-3,
    after=with_features,
)
