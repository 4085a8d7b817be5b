"""cifar10_cnn: a 32x32 colour image, classified by a small convolutional network.

python -m tools.export cifar10_cnn
"""

import torch
from torch import nn
from torch.nn.functional import relu

from tools.features import with_features
from tools.recipes import Recipe


class SimpleCNN(nn.Module):
    """Two 5x5 convolutions with pooling, three linear layers: [N, 3, 32, 32] float32 to [N, 10] logits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """Activations of the last hidden layer, [N, 84]."""
        maps = self.pool(relu(self.conv1(image)))
        maps = self.pool(relu(self.conv2(maps)))
        return relu(self.fc2(relu(self.fc1(torch.flatten(maps, 1)))))

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Logits of the ten classes."""
        return self.fc3(features)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits of the ten classes."""
        return self.classify(self.features(image))


RECIPE = Recipe(
    network=SimpleCNN,
    optimizer=lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9),
    floors={"cifar10": 0.50, "silhouettes": 0.70},
    epochs=10,
    batch_size=4,
    lr=1e-3,
    after=with_features,
)
