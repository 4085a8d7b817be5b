"""How each model is made: one module per model, `tools/recipes/<model>.py`, each with a `RECIPE`.

A recipe holds what is particular to a model: its network, its data, its optimizer and the accuracy below which
it is not worth serving. Everything that is the same for all of them is in `tools.train` and `tools.export`.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


class RecipeError(Exception):
    """A recipe is unknown or cannot be followed; the message names it and the remedy."""


@dataclass(frozen=True)
class Recipe:
    """How one model is made.

    Attributes:
        network: builds the untrained network; inputs and outputs must be those of the model's config.pbtxt.
        optimizer: builds the optimizer from the parameters and the learning rate.
        floors: lowest test accuracy (0 to 1) that may be served, per data set; the first one is the real data,
            the second its offline stand-in.
    """

    network: "Callable[[], nn.Module]"
    optimizer: "Callable[[Iterable[nn.Parameter], float], Optimizer]"
    floors: Mapping[str, float]
    epochs: int
    batch_size: int
    lr: float

    @property
    def data(self) -> tuple[str, ...]:
        """Names of the data sets, the preferred one first."""
        return tuple(self.floors)


def names() -> list[str]:
    """All models that have a recipe, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(model: str) -> Recipe:
    """The recipe of a model.

    Raises:
        RecipeError: there is none of this name.
    """
    if model not in names():
        raise RecipeError(f"no recipe tools/recipes/{model}.py; there are: {', '.join(names())}")
    recipe: Recipe = importlib.import_module(f"{__name__}.{model}").RECIPE
    return recipe
