"""From a classifier's logits to an answer: probabilities and the best class."""

import torch
from torch import Tensor, nn


class Classification(nn.Module):
    """Map logits [N, classes] to probabilities [N, classes], and the best class's index and probability, [N, 1]."""

    def forward(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return float32, int64, float32."""
        probabilities = torch.softmax(logits, 1)
        best, index = probabilities.max(1, keepdim=True)
        return probabilities, index, best
