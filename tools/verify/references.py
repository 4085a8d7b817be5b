"""What a version should answer, computed without a server by the eager network that it was exported from.

A classifier's network is rebuilt from the checkpoints of its finished training. Where they are gone, or belong to a
recipe that has changed since, the version's own TorchScript file stands in, which its export has proven against that
network. A verification says which of the two it was.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from clients.contract import Array
from clients.errors import ToolError
from tools import datasets, recipes, torchscript
from tools.datasets import ImageData
from tools.export import imported_network, pipelines, preparation
from tools.export.conversion import ImportedModel
from tools.export.pipelines import Arrays, Run, compose
from tools.export.proof import ProofError
from tools.recipes import Imported, PythonStep, Recipe, RecipeError, Step
from tools.repository import MODEL_FILE, REPOSITORY, read_manifest, version_path
from tools.train import training
from tools.train.settings import Settings
from tools.train.training import UnfinishedError
from tools.verify.published import ChangedFileError, check_files

EAGER, FILE, STEP = "eager network", "TorchScript file", "step in this process"
_LARGEST_BATCH = 64


class NoReferenceError(ToolError):
    """What a version should answer cannot be computed here: its files do not fit its config, or lack something."""


class _NotRebuiltError(ToolError):
    """The eager network of a version cannot be rebuilt; the message says why."""


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
        if model not in self._cache:
            version = self.chosen.get(model) or pipelines.newest(model, repository)
            check_files(model, version, repository)
            folder = version_path(model, version, repository)
            if isinstance(recipes.load(model), PythonStep):
                self.kinds[model] = STEP
                self._cache[model] = pipelines.python_step(folder).run
            else:
                self._cache[model] = self._network(model, version, folder)
        return self._cache[model]

    def _network(self, model: str, version: int, folder: Path) -> Run:
        module = torchscript.load(folder / MODEL_FILE)
        network: nn.Module = module
        self.kinds[model] = FILE
        try:
            network = _eager(model, version, self.repository).eval()
            self.kinds[model] = EAGER
        except (UnfinishedError, _NotRebuiltError) as error:
            self.notes[model] = f"its own TorchScript file answers for {model}: {error}"
        return pipelines.array_function(network, module, model, self.repository)


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
    return _rebuilt(model, manifest, repository)


def _rebuilt(model: str, manifest: dict[str, Any], repository: Path) -> nn.Module:
    """The eager network of a published version, from checkpoints that are known to give its very weights."""
    settings = Settings(model, manifest["data"]["name"], **manifest["training"])
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise _NotRebuiltError("it was trained on a GPU, and there is none here")
    trained = training.train(settings, test_data(manifest), repository=repository, rebuild=True)
    # Versions that were published before manifests named their checkpoint are taken at their settings' word.
    if trained.checkpoint != manifest.get("checkpoint", trained.checkpoint):
        raise _NotRebuiltError("its recipe, config or parent has changed since it was exported")
    return preparation.final_network(trained, repository)


def test_data(manifest: Mapping[str, Any]) -> ImageData:
    """Load the data that a version was tested on.

    Raises:
        ChangedFileError: its files have changed, so that accuracies would not compare.
    """
    stated = manifest["data"]
    recipe = recipes.load(manifest["model"])
    data = _data_set(stated["name"])
    if isinstance(recipe, Recipe) and recipe.limits:
        data = datasets.first(data, *recipe.limits)
    if data.sha256 != stated["sha256"]:
        raise ChangedFileError(
            f"{manifest['model']} version {manifest['version']} was tested on {stated['title']} with SHA-256 "
            f"{stated['sha256'][:12]}, data/ has {data.sha256[:12]}; restore that data, or export the model again"
        )
    return data


# Many models share a data set, and reading it takes longer than many a verification.
_data_set = functools.cache(datasets.load)


def answers(run: Run, inputs: Arrays, max_batch_size: int) -> dict[str, Array]:
    """Answer all rows in batches, or one by one for a model without batches: [rows, …] by output name."""
    rows, size = len(next(iter(inputs.values()))), min(max_batch_size, _LARGEST_BATCH)
    if not size:
        singles = [run({name: array[row] for name, array in inputs.items()}) for row in range(rows)]
        return {name: np.stack([single[name] for single in singles]) for name in singles[0]}
    starts = range(0, rows, size)
    parts = [run({name: array[start : start + size] for name, array in inputs.items()}) for start in starts]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
