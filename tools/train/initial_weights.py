"""The network that a training starts from: a new one, a copy of its parent's, or one with pretrained weights."""

import copy
import pickle

from torch import Tensor, nn

from tools.recipes import Recipe, RecipeError
from tools.train.settings import Settings


def initial_network(recipe: Recipe, settings: Settings, parent: nn.Module | None, samples: Tensor) -> nn.Module:
    """Build the network that training starts from, after the recipe's `before`.

    Args:
        recipe: how the model is made.
        settings: say whether it starts from pretrained weights.
        parent: the parent's trained network, for a variant.
        samples: training inputs, float32 [N, …], for `before`.

    Raises:
        RecipeError: the recipe has neither a network nor a parent, or cannot start from pretrained weights.
    """
    if settings.weights:
        return recipe.before(pretrained_network(recipe, settings), samples)
    if recipe.network:
        return recipe.before(recipe.network(), samples)
    if parent is None:
        raise RecipeError(f"{settings.model}: its recipe needs a `network`, or a `parent` to start from")
    return recipe.before(copy.deepcopy(parent), samples)


def pretrained_network(recipe: Recipe, settings: Settings) -> nn.Module:
    """Build the network with the weights that `settings.weights` names.

    Raises:
        RecipeError: the recipe has no `pretrained`, or the weights cannot be read, downloaded or loaded.
    """
    if recipe.pretrained is None:
        raise RecipeError(f"{settings.model} has no `pretrained` in its recipe, so --weights does not apply; omit it")
    try:
        return recipe.pretrained(settings.weights or "")
    except (OSError, RuntimeError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise RecipeError(f"{settings.model}: cannot load the weights {settings.weights}: {error}") from error
