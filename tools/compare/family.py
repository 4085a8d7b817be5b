"""A model and its variants: who descends from whom, read from the recipes."""

from tools import recipes
from tools.recipes import Recipe, RecipeError


def root(model: str) -> str:
    """The model that a variant, a variant of a variant … began as; a model without a parent is its own root."""
    parent = recipes.trained(model).parent
    return root(parent) if parent else model


def family(model: str) -> list[str]:
    """The root of a model, all of its variants, and the teachers that they learned from; the root first.

    Raises:
        RecipeError: the model has no recipe, or learns nothing.
    """
    top = root(model)
    trained = [name for name in recipes.names() if isinstance(recipes.load(name), Recipe)]
    variants = {name for name in trained if root(name) == top}
    teachers = {teacher for name in variants if (teacher := recipes.trained(name).teacher)}
    if len(variants | teachers) < 2:
        raise RecipeError(f'{model} has no variants to compare with; a recipe with parent="{model}" makes one')
    return [top, *sorted((variants | teachers) - {top})]
