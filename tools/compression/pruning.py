"""Fewer weights: whole channels and neurons really removed, or single weights set to zero for comparison.

Removing channels is torch-pruning's work: it follows which layers depend on each other, residual connections
included (Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023).
"""

import torch
import torch_pruning
from torch import Tensor, nn
from torch.nn.utils import prune

from tools.compression.change import Change


def structured(fraction: float) -> Change:
    """Remove this fraction of channels and neurons of every layer but the last, the smallest by L2 norm first.

    Tensors shrink, so that any runtime is faster; the outputs keep their number.
    """

    def change(network: nn.Module, samples: Tensor) -> nn.Module:
        outputs = [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1:]
        pruner = torch_pruning.pruner.MagnitudePruner(
            network.eval(),
            samples[:1],
            importance=torch_pruning.importance.MagnitudeImportance(p=2),
            pruning_ratio=fraction,
            ignored_layers=outputs,
        )
        pruner.step()
        return network

    return change


def unstructured(fraction: float) -> Change:
    """Set this fraction of all weights to zero, the smallest first; tensors keep their size."""

    def change(network: nn.Module, _: Tensor) -> nn.Module:
        prune.global_unstructured(weights(network), pruning_method=prune.L1Unstructured, amount=fraction)
        return network

    return change


def made_permanent(network: nn.Module, _: Tensor) -> nn.Module:
    """Forget the masks that held the zeros in place during training, and keep the zeros."""
    for layer, name in weights(network):
        prune.remove(layer, name)
    return network


def weights(network: nn.Module) -> list[tuple[nn.Module, str]]:
    """The weights of all linear and convolutional layers."""
    return [(layer, "weight") for layer in network.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]


@torch.no_grad()
def sparsity(network: nn.Module) -> float:
    """Share of zeros among those weights."""
    tensors = [getattr(layer, name) for layer, name in weights(network)]
    zeros = sum(float((tensor == 0).sum()) for tensor in tensors)
    return zeros / float(sum(tensor.numel() for tensor in tensors))
