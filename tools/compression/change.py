"""The form that every change of a network has."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

# Turns a network into another one, given samples of its inputs, float32 [N, …]; it may change the one that it gets.
Change = Callable[["nn.Module", "Tensor"], "nn.Module"]
