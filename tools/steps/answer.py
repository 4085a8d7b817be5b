"""From a classifier's logits to what people ask for."""

import torch
from torch import Tensor, nn


class Classification(nn.Module):
    """Logits [N, classes] to probabilities [N, classes], the index of the best class and its probability, [N, 1]."""

    def forward(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Float32, int64, float32."""
        probabilities = torch.softmax(logits, 1)
        best, index = probabilities.max(1, keepdim=True)
        return probabilities, index, best
