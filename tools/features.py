"""A network that gives its penultimate activations besides its logits: embeddings for search from the same service.

    RECIPE = Recipe(network=SimpleNN, after=with_features, …)

The second output is called FEATURES__1, because libtorch takes the number after `__` for the place in what `forward`
returns. Callers ask for outputs by name; one who wants the logits alone is sent nothing more.
"""

from typing import Any

from torch import Tensor, nn


class WithFeatures(nn.Module):
    """A network with `features(x)` and `classify(features)`, in one call: logits [N, classes], features [N, width]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        # TorchScript reads comments after code as types, so that mypy has to be told here that anything may be called.
        self.network: Any = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and what they are made of."""
        features = self.network.features(image)
        return self.network.classify(features), features


def with_features(network: nn.Module, _: Tensor) -> nn.Module:
    """The change for a recipe's `after`."""
    return WithFeatures(network)
