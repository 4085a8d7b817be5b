"""What a version should answer, computed here without a server: the eager network that it was exported from.

A classifier's network is put together again from the checkpoints of its finished training. Where they are gone, or
belong to a recipe that has changed since, the version's own TorchScript file stands in, which its export has proven
against that network; whoever reads a verification is told which of the two it was.
"""

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from clients.contract import Array
from tools import datasets, recipes, torchscript
from tools.contract import read_contract
from tools.datasets import ImageData
from tools.export import contents, imported, origin, pipelines
from tools.export.pipelines import Arrays, Composition, Run
from tools.recipes import Imported, PythonStep, Recipe, RecipeError, Step
from tools.repository import MODEL_FILE, REPOSITORY, RepositoryError, read_manifest, version_path
from tools.train import training
from tools.train.settings import Settings
from tools.train.training import UnfinishedError

EAGER, FILE, STEP = "eager network", "TorchScript file", "step in this process"
CHUNK = 64


@dataclass
class References:
    """What answers for the models of a repository; `kinds` says for each how, and `notes` why not eagerly.

    Attributes:
        chosen: versions by model where they are not the newest.
    """

    repository: Path = REPOSITORY
    chosen: Mapping[str, int] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    _made: dict[str, Run] = field(default_factory=dict)

    def version(self, model: str) -> int:
        """The version of a model that is meant."""
        return self.chosen.get(model) or pipelines.newest(model, self.repository)

    def run(self, model: str) -> Run:
        """A model as a function of arrays by name, an ensemble with all its members."""
        return Composition(model, self.repository, self._alone)

    def kind(self, model: str) -> str:
        """What answered for a model or for the members of an ensemble, once it has been run."""
        names = [model, *pipelines.all_members(model, self.repository)]
        kinds = {self.kinds[name] for name in names if name in self.kinds}
        return ", ".join(kind for kind in (EAGER, FILE, STEP) if kind in kinds)

    def _alone(self, model: str, repository: Path) -> Run:
        if model not in self._made:
            recipe, folder = recipes.load(model), version_path(model, self.version(model), repository)
            check_files(model, self.version(model), repository)
            if isinstance(recipe, PythonStep):
                self.kinds[model] = STEP
                self._made[model] = row_by_row(pipelines.python_step(folder).run, model, repository)
            else:
                self._made[model] = self._network(model, recipe, folder)
        return self._made[model]

    def _network(self, model: str, recipe: Any, folder: Path) -> Run:
        module = torchscript.load(folder / MODEL_FILE)
        network: nn.Module = module
        self.kinds[model] = FILE
        try:
            network = self._eager(model, recipe).eval()
            self.kinds[model] = EAGER
        except (UnfinishedError, NotRebuiltError) as error:
            self.notes[model] = f"its own TorchScript file answers for {model}: {error}"
        return pipelines.bound(network, module, model, self.repository)

    def _eager(self, model: str, recipe: Any) -> nn.Module:
        if isinstance(recipe, Step):
            return contents.step_network(recipe, self.repository)
        if isinstance(recipe, Imported):
            return imported_again(
                model, recipe, read_manifest(model, self.version(model), self.repository), self.repository
            )
        if not isinstance(recipe, Recipe):
            raise RecipeError(f"{model} has a model.pt, but its recipe makes none")
        return rebuilt(model, read_manifest(model, self.version(model), self.repository), self.repository)


class NotRebuiltError(Exception):
    """The eager network of a version cannot be put together again; the message says why."""


class ChangedFileError(RepositoryError):
    """A version's file is not the one that its manifest describes."""


def imported_again(model: str, recipe: Imported, manifest: dict[str, Any], repository: Path) -> nn.Module:
    """The network of a published version that was made elsewhere, called as its file is.

    Raises:
        NotRebuiltError: what it was made from has changed.
    """
    if origin.sources(recipe) != manifest.get("imported"):
        raise NotRebuiltError("what it was made from has changed since it was exported")
    return imported.served_as(origin.network(recipe), model, recipe, repository)


def rebuilt(model: str, manifest: dict[str, Any], repository: Path) -> nn.Module:
    """The eager network of a published version, from checkpoints.

    Raises:
        NotRebuiltError, UnfinishedError: nothing here is known to give the weights of this very version.
    """
    settings = Settings(model, manifest["data"]["name"], **manifest["training"])
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise NotRebuiltError("it was trained on a GPU, and there is none here")
    trained = training.train(settings, test_data(manifest), repository=repository, rebuild=True)
    # Versions that were published before manifests named their checkpoint are taken at their settings' word.
    if trained.checkpoint != manifest.get("checkpoint", trained.checkpoint):
        raise NotRebuiltError("its recipe, config or parent has changed since it was exported")
    return contents.finished(trained, repository)


def test_data(manifest: Mapping[str, Any]) -> ImageData:
    """The data that a version was tested on.

    Raises:
        ChangedFileError: its files are others by now, so that accuracies would not compare.
    """
    about = manifest["data"]
    recipe = recipes.load(manifest["model"])
    data = read_once(about["name"])
    if isinstance(recipe, Recipe) and recipe.limits:
        data = datasets.first(data, *recipe.limits)
    if data.sha256 != about["sha256"]:
        raise ChangedFileError(
            f"{manifest['model']} version {manifest['version']} was tested on {about['title']} with SHA-256 "
            f"{about['sha256'][:12]}, data/ has {data.sha256[:12]}; restore that data, or export the model again"
        )
    return data


@functools.cache
def read_once(name: str) -> ImageData:
    """A data set, kept: many models share one, and reading it takes longer than many a verification."""
    return datasets.load(name)


def check_files(model: str, version: int, repository: Path) -> None:
    """See that a version's files are those that were published.

    Raises:
        ChangedFileError: one is missing or has another content; it is named.
    """
    manifest, folder = read_manifest(model, version, repository), version_path(model, version, repository)
    for file in manifest.get("files", [manifest["file"]] if "file" in manifest else []):
        path = folder / file["name"]
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
        if found != file["sha256"]:
            raise ChangedFileError(
                f"{path} is not what was published: expected SHA-256 {file['sha256'][:12]}, got {found[:12]}; "
                f"export {model} again"
            )


def row_by_row(run: Run, model: str, repository: Path) -> Run:
    """A Python step whose model takes one row at a time, as a function of many rows of one shape."""
    if read_contract(model, repository).max_batch_size != 1:
        return run

    def each(arrays: Arrays) -> Arrays:
        count = len(next(iter(arrays.values())))
        rows = [run({name: array[row : row + 1] for name, array in arrays.items()}) for row in range(count)]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    return each


def answers(run: Run, inputs: Arrays, batched: bool = True) -> dict[str, Array]:
    """What it answers to all rows, a chunk at a time: arrays [rows, …] by output name."""
    rows = len(next(iter(inputs.values())))
    if batched:
        starts = range(0, rows, CHUNK)
        parts = [run({name: array[at : at + CHUNK] for name, array in inputs.items()}) for at in starts]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    singles = [run({name: array[row] for name, array in inputs.items()}) for row in range(rows)]
    return {name: np.stack([single[name] for single in singles]) for name in singles[0]}
