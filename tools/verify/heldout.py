"""What a served model is verified with: the test set of its data, or random inputs for a step that learns nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from clients.contract import Array, Contract, TensorSpec
from tools import recipes
from tools.contract import example, read_contract
from tools.datasets import ImageData, Labels
from tools.export import pipelines
from tools.export.proof import with_shapes
from tools.recipes import AnyRecipe, Imported, Pipeline, Recipe, Step
from tools.repository import REPOSITORY, read_manifest
from tools.train import training
from tools.verify.references import test_data

# How many random inputs of each shape a step gets, and the height and width of a random picture file.
_EXAMPLES, _FILE_SIDE = 64, 24
_SEED = 7


@dataclass(frozen=True)
class HeldOut:
    """Rows to send, all of one shape.

    Attributes:
        inputs: arrays [rows, …] by input name.
        labels: the true class of each row, int64 [rows]; None for a model that names no classes.
        classes: names of the classes, by label.
        title: what the rows are, for people.
    """

    inputs: Mapping[str, Array]
    labels: Labels | None
    classes: tuple[str, ...]
    title: str

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(next(iter(self.inputs.values())))

    def first(self, limit: int | None) -> "HeldOut":
        """The same set with at most `limit` rows, spread evenly over it."""
        if limit is None or limit >= self.rows:
            return self
        chosen = np.linspace(0, self.rows - 1, limit).astype(np.int64)
        inputs = {name: array[chosen] for name, array in self.inputs.items()}
        return replace(self, inputs=inputs, labels=None if self.labels is None else self.labels[chosen])


def held_out(model: str, version: int, repository: Path = REPOSITORY) -> list[HeldOut]:
    """All that a version is verified with; several sets where a step takes inputs of several shapes.

    Raises:
        RepositoryError: the data is no longer what the version was tested on.
    """
    recipe, contract = recipes.load(model), read_contract(model, repository)
    if not isinstance(recipe, Recipe | Pipeline):
        shapes = with_shapes(contract.inputs, _dims(recipe, contract))
        return [_examples(list(specs.values())) for specs in shapes]
    data = test_data(read_manifest(model, version, repository))
    if isinstance(recipe, Pipeline):
        array = _pictures(contract, data)
    else:
        array = training.inputs(data.test_images, training.input_spec(model, repository)).numpy()
    inputs = {contract.inputs[0].name: array}
    return [HeldOut(inputs, data.test_labels, data.classes, f"test set of {data.title}")]


def _dims(recipe: AnyRecipe, contract: Contract) -> list[Mapping[str, tuple[int, ...]]]:
    """Shapes by input for a model whose config leaves dims open."""
    if isinstance(recipe, Imported):
        return list(recipe.dims)
    return [{contract.inputs[0].name: shape} for shape in recipe.dims] if isinstance(recipe, Step) else []


def _pictures(contract: Contract, data: ImageData) -> Array:
    """Test images as a pipeline takes them: pixels, or files."""
    (spec,) = contract.inputs
    return _as_files(data.test_images) if spec.datatype == "STRING" else data.test_images


def _as_files(images: Array) -> Array:
    """PNG files of images: object [images, 1]."""
    return np.array([[pipelines.png(pixels)] for pixels in images], np.object_)


def _examples(inputs: Sequence[TensorSpec]) -> HeldOut:
    """Random inputs of one shape; a text is a picture file, the only kind that steps here read."""
    generator = torch.Generator().manual_seed(_SEED)
    size = (_EXAMPLES, _FILE_SIDE, _FILE_SIDE, 3)
    arrays: dict[str, Array] = {}
    for spec in inputs:
        if spec.datatype == "STRING":
            arrays[spec.name] = _as_files(np.random.default_rng(_SEED).integers(0, 256, size, np.uint8))
        else:
            arrays[spec.name] = example(spec, _EXAMPLES, generator).numpy()
    shapes = ", ".join(f"{list(spec.dims)}" for spec in inputs)
    return HeldOut(arrays, None, (), f"{_EXAMPLES} random inputs {shapes}")
