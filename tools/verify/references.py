"""Held-out rows to send, and what a version should answer to them, computed without a server by its eager network.

A classifier's network is rebuilt from the checkpoints of its training. Where they are gone, or its recipe has changed,
the version's own TorchScript file stands in, which export has proven; a verification says which of the two it was.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from clients.contract import Array, TensorSpec
from clients.errors import ToolError
from tools import datasets, recipes, torchscript
from tools.contract import read_contract
from tools.datasets import ImageData, Labels
from tools.export import imported_network, pipelines, preparation
from tools.export.conversion import ImportedModel
from tools.export.example_files import samples_of
from tools.export.pipelines import Arrays, Run, compose
from tools.export.proof import ProofError
from tools.export.samples import Row, Samples
from tools.recipes import Imported, Pipeline, PythonStep, Recipe, RecipeError, Step
from tools.repository import MODEL_FILE, REPOSITORY, read_manifest, version_path
from tools.train import training
from tools.train.settings import Settings
from tools.train.training import UnfinishedError
from tools.verify.verification import ChangedFileError, check_files

EAGER, FILE, STEP = "eager network", "TorchScript file", "step in this process"
# How many inputs of each shape a step gets (all of them in every way), and the side of a random picture file.
_EXAMPLES, _FILE_SIDE = 32, 24
_SEED = 7
# Many models share a data set, and reading it takes longer than many a verification.
_data_set = functools.cache(datasets.load)


class NoReferenceError(ToolError):
    """What a version should answer cannot be computed here: its files do not fit its config, or lack something."""


class _NotRebuiltError(ToolError):
    """The eager network of a version cannot be rebuilt; the message says why."""


@dataclass(frozen=True)
class HeldOut:
    """Rows to send, all of one shape.

    Attributes:
        inputs: arrays [rows, …] by input name.
        labels: the true class of each row, int64 [rows]; None for a model that names no classes.
        classes: names of the classes, by label.
        title: what the rows are, for people.
        company: rows of huge numbers or NaN, which others must not be changed by; how they round is not judged.
    """

    inputs: Mapping[str, Array]
    labels: Labels | None
    classes: tuple[str, ...]
    title: str
    company: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(next(iter(self.inputs.values())))

    def first(self, limit: int | None) -> "HeldOut":
        """The same set with at most `limit` rows, spread evenly over it."""
        if limit is None or limit >= self.rows:
            return self
        return self.at(np.linspace(0, self.rows - 1, limit).astype(np.int64))

    def at(self, rows: npt.NDArray[np.int64]) -> "HeldOut":
        """The same set with only some rows."""
        inputs = {name: array[rows] for name, array in self.inputs.items()}
        company = tuple(np.flatnonzero(np.isin(rows, self.company)).tolist())
        labels = None if self.labels is None else self.labels[rows]
        return replace(self, inputs=inputs, labels=labels, company=company)

    def answered(self, run: Run, is_batched: bool) -> "HeldOut":
        """The same set without the rows that the network refuses."""
        return self.at(np.flatnonzero([_answers(run, self.inputs, row, is_batched) for row in range(self.rows)]))


def held_out(model: str, version: int, repository: Path = REPOSITORY) -> list[HeldOut]:
    """Load a version's test set, or draw random inputs, of each shape that it takes, for a step that learns nothing.

    Raises ChangedFileError if the data is no longer what the version was tested on.
    """
    recipe, contract = recipes.load(model), read_contract(model, repository)
    spec = contract.inputs[0]
    if not isinstance(recipe, Recipe | Pipeline):
        samples = Samples()
        if isinstance(recipe, Imported):
            samples = samples_of(recipe, contract.inputs)
        elif isinstance(recipe, Step):
            samples = Samples([{spec.name: shape} for shape in recipe.dims])
        return [_examples(list(specs.values()), samples) for specs in samples.shaped(contract.inputs)]
    data = _test_data(read_manifest(model, version, repository))
    if isinstance(recipe, Recipe):
        array = training.inputs(data.test_images, training.input_spec(model, repository)).numpy()
        arrays: Arrays = {spec.name: array}
    else:
        arrays = pipelines.inputs_of(model, data.test_images, repository)
    return [HeldOut(arrays, data.test_labels, data.classes, f"test set of {data.title}")]


def _test_data(manifest: Mapping[str, Any]) -> ImageData:
    recipe, stated = recipes.load(manifest["model"]), manifest["data"]
    data = _data_set(stated["name"])
    if isinstance(recipe, Recipe) and recipe.limits:
        data = datasets.first(data, *recipe.limits)
    if data.sha256 != stated["sha256"]:  # Accuracies would not compare.
        raise ChangedFileError(
            f"{manifest['model']} version {manifest['version']} was tested on {stated['title']} with SHA-256 "
            f"{stated['sha256'][:12]}, data/ has {data.sha256[:12]}; restore that data, or export the model again"
        )
    return data


def _examples(inputs: Sequence[TensorSpec], samples: Samples) -> HeldOut:
    shapes = ", ".join(f"{list(spec.dims)}" for spec in inputs)
    size = (_EXAMPLES, _FILE_SIDE, _FILE_SIDE, 3)
    rows = samples.unlike(inputs)
    rows += [Row("random", True, samples.draw(inputs, 1, _SEED + at)) for at in range(_EXAMPLES - len(rows))]
    arrays: dict[str, Array] = {}
    for at, spec in enumerate(inputs):
        if spec.datatype == "STRING":  # Picture files, the only kind of text that steps here read.
            arrays[spec.name] = pipelines.picture_files(np.random.default_rng(_SEED).integers(0, 256, size, np.uint8))
        else:
            arrays[spec.name] = np.concatenate([np.asarray(row.values[at]) for row in rows])
    company = tuple(at for at, row in enumerate(rows) if not row.is_plain)
    return HeldOut(arrays, None, (), f"{len(rows)} random and unusual inputs {shapes}", company)


def _answers(run: Run, inputs: Arrays, row: int, is_batched: bool) -> bool:
    try:
        run({name: array[row : row + 1] if is_batched else array[row] for name, array in inputs.items()})
    except Exception:  # Whatever a network's Python raises.
        return False
    return True


@dataclass
class References:
    """What answers for the models of a repository.

    Attributes:
        chosen: versions by model where they are not the newest.
        kinds: how each model that was run is answered for: EAGER, FILE or STEP.
        notes: why a file answers for a model and not its eager network.
    """

    repository: Path = REPOSITORY
    chosen: Mapping[str, int] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    _cache: dict[str, Run] = field(default_factory=dict)

    def run(self, model: str) -> Run:
        """Load a model as a function of arrays by name, an ensemble with all its members.

        Raises:
            NoReferenceError: a version's file does not fit its config, or does not load by itself.
            ChangedFileError: a version's file is not the one that was published.
        """
        try:
            return compose(model, self.repository, self._load)
        except ProofError as error:
            raise NoReferenceError(str(error)) from error

    def kind(self, model: str) -> str:
        """How a model that was run, or the members of an ensemble, were answered for."""
        names = [model, *pipelines.all_members(model, self.repository)]
        kinds = {self.kinds[name] for name in names if name in self.kinds}
        return ", ".join(kind for kind in (EAGER, FILE, STEP) if kind in kinds)

    def _load(self, model: str, repository: Path) -> Run:
        if model in self._cache:
            return self._cache[model]
        version = self.chosen.get(model) or pipelines.newest(model, repository)
        check_files(model, version, repository)
        folder = version_path(model, version, repository)
        if isinstance(recipes.load(model), PythonStep):
            self.kinds[model], run = STEP, pipelines.python_step(folder).run
        else:
            module = torchscript.load(folder / MODEL_FILE)
            network: nn.Module = module
            try:
                network, self.kinds[model] = _eager(model, version, repository).eval(), EAGER
            except (UnfinishedError, _NotRebuiltError) as error:
                self.kinds[model] = FILE
                self.notes[model] = f"its own TorchScript file answers for {model}: {error}"
            run = pipelines.array_function(network, module, model, repository)
        self._cache[model] = run
        return self._cache[model]


def _eager(model: str, version: int, repository: Path) -> nn.Module:
    recipe = recipes.load(model)
    if isinstance(recipe, Step):
        return preparation.step_network(recipe, repository)
    manifest = read_manifest(model, version, repository)
    if isinstance(recipe, Imported):
        if imported_network.sources(recipe) != manifest.get("imported"):
            raise _NotRebuiltError("what it was made from has changed since it was exported")
        return ImportedModel(imported_network.load(recipe), model, recipe, repository).adapter
    if not isinstance(recipe, Recipe):
        raise RecipeError(f"{model} has a {MODEL_FILE}, but its recipe makes none")
    settings = Settings(model, manifest["data"]["name"], **manifest["training"])
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise _NotRebuiltError("it was trained on a GPU, and there is none here")
    trained = training.train(settings, _test_data(manifest), repository=repository, rebuild=True)
    # Versions that were published before manifests named their checkpoint are taken at their settings' word.
    if trained.checkpoint != manifest.get("checkpoint", trained.checkpoint):
        raise _NotRebuiltError("its recipe, config or parent has changed since it was exported")
    return preparation.final_network(trained, repository)


def answers(run: Run, inputs: Arrays, max_batch_size: int) -> dict[str, Array]:
    """Answer all rows in batches, or one by one for a model without batches: [rows, …] by output name."""
    rows, size = range(len(next(iter(inputs.values())))), min(max_batch_size, 64)
    places = [slice(start, start + size) for start in rows[::size]] if size else rows
    parts = [run({name: array[place] for name, array in inputs.items()}) for place in places]
    join = np.concatenate if size else np.stack
    return {name: join([part[name] for part in parts]) for name in parts[0]}
