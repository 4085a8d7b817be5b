"""The network that a training begins with: a new one, its parent's, or one with weights that exist."""

import copy
import pickle

from torch import Tensor, nn

from tools.recipes import Recipe, RecipeError
from tools.train.settings import Settings


def begin(recipe: Recipe, settings: Settings, parent: nn.Module | None, samples: Tensor) -> nn.Module:
    """The network that training starts from.

    Raises:
        RecipeError: the recipe has neither a network nor a parent, or cannot begin from weights.
    """
    if settings.weights:
        return recipe.before(from_weights(recipe, settings), samples)
    if recipe.network:
        return recipe.before(recipe.network(), samples)
    if parent is None:
        raise RecipeError("a recipe needs a `network`, or a `parent` to begin from")
    return recipe.before(copy.deepcopy(parent), samples)


def from_weights(recipe: Recipe, settings: Settings) -> nn.Module:
    """The network with weights that somebody else trained.

    Raises:
        RecipeError: the recipe knows no way to begin from them, or they cannot be had.
    """
    if recipe.pretrained is None:
        raise RecipeError(f"{settings.model} cannot begin from weights: its recipe has no `pretrained`; omit --weights")
    try:
        return recipe.pretrained(settings.weights or "")
    except (OSError, RuntimeError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise RecipeError(f"{settings.model}: cannot begin from the weights {settings.weights}: {error}") from error
