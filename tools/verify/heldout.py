"""What a served model is verified with: the held-out set of its data, or examples for a step that learns nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from clients.contract import Array, Contract, TensorSpec
from tools import recipes
from tools.contract import example, read_contract
from tools.datasets import ImageData, Labels
from tools.export import pipelines
from tools.export.proof import shaped
from tools.recipes import AnyRecipe, Imported, Pipeline, Recipe, Step
from tools.repository import REPOSITORY, read_manifest
from tools.train import training
from tools.verify.references import test_data

# A step is shown so many random inputs of each shape; a picture file is as large as this.
EXAMPLES, FILE_SIDE = 64, 24
SEED = 7


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
        """How many."""
        return len(next(iter(self.inputs.values())))

    def first(self, limit: int | None) -> "HeldOut":
        """The same with so many rows at most, spread evenly over the set."""
        if limit is None or limit >= self.rows:
            return self
        kept = np.linspace(0, self.rows - 1, limit).astype(np.int64)
        inputs = {name: array[kept] for name, array in self.inputs.items()}
        return HeldOut(inputs, None if self.labels is None else self.labels[kept], self.classes, self.title)


def held_out(model: str, version: int, repository: Path = REPOSITORY) -> list[HeldOut]:
    """All that a version is verified with; several sets where a step takes inputs of several shapes.

    Raises:
        RepositoryError: the data is no longer what the version was tested on.
    """
    recipe, contract = recipes.load(model), read_contract(model, repository)
    if isinstance(recipe, Recipe | Pipeline):
        data = test_data(read_manifest(model, version, repository))
        inputs = (
            pictures(contract, data) if isinstance(recipe, Pipeline) else tensors(model, contract, data, repository)
        )
        return [HeldOut(inputs, data.test_labels, data.classes, f"test set of {data.title}")]
    return [
        examples(list(specs.values()), contract.batched) for specs in shaped(contract.inputs, dims_of(recipe, contract))
    ]


def dims_of(recipe: AnyRecipe, contract: Contract) -> list[Mapping[str, tuple[int, ...]]]:
    """Shapes by input for a model whose config leaves dims open."""
    if isinstance(recipe, Imported):
        return list(recipe.dims)
    return [{contract.inputs[0].name: shape} for shape in recipe.dims] if isinstance(recipe, Step) else []


def tensors(model: str, contract: Contract, data: ImageData, repository: Path) -> dict[str, Array]:
    """Test images as a classifier takes them."""
    return {contract.inputs[0].name: training.inputs(data.test_images, training.input_spec(model, repository)).numpy()}


def pictures(contract: Contract, data: ImageData) -> dict[str, Array]:
    """Test images as a pipeline takes them: pixels, or files."""
    (wanted,) = contract.inputs
    if wanted.datatype != "STRING":
        return {wanted.name: data.test_images}
    return {wanted.name: np.array([[pipelines.png(each)] for each in data.test_images], np.object_)}


def examples(inputs: list[TensorSpec], batched: bool) -> HeldOut:
    """Random inputs of one shape; a text is a picture file, the only kind that steps here read."""
    generator = torch.Generator().manual_seed(SEED)
    arrays = {spec.name: files() if spec.datatype == "STRING" else values(spec, generator) for spec in inputs}
    shapes = ", ".join(f"{list(spec.dims)}" for spec in inputs)
    return HeldOut(arrays, None, (), f"{EXAMPLES} random inputs {shapes}")


def values(spec: TensorSpec, generator: torch.Generator) -> Array:
    """Random numbers that the contract admits, [examples, …]."""
    array: Array = example(spec, EXAMPLES, generator).numpy()
    return array


def files() -> Array:
    """Picture files of random pixels: object [examples, 1]."""
    pixels = np.random.default_rng(SEED).integers(0, 256, (EXAMPLES, FILE_SIDE, FILE_SIDE, 3), np.uint8)
    return np.array([[pipelines.png(each)] for each in pixels], np.object_)
