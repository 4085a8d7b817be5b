"""Ensembles without a server: what they are made of, and what their members answer one after the other.

Export measures a pipeline's accuracy with this, through the very files that it serves.
"""

import importlib.util
import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from clients.contract import Array
from tools import datasets, recipes, torchscript
from tools.contract import read_contract
from tools.datasets import ImageData, Labels
from tools.export import proof
from tools.recipes import Pipeline, Recipe, RecipeError
from tools.repository import MODEL_FILE, REPOSITORY, RepositoryError, read_config, read_manifest, version_path, versions

Arrays = Mapping[str, Array]
Run = Callable[[Arrays], Arrays]
Alone = Callable[[str, Path], Run]  # A model that is no ensemble, and its repository, to what answers for it.


def members(model: str, repository: Path = REPOSITORY) -> list[str]:
    """The models that an ensemble consists of, in its config's order; none for any other model."""
    return [step.model_name for step in read_config(model, repository=repository).ensemble_scheduling.step]


def all_members(model: str, repository: Path = REPOSITORY) -> list[str]:
    """The same with the members of members, those first that others need."""
    every: list[str] = []
    for member in members(model, repository):
        every += [*all_members(member, repository), member]
    return list(dict.fromkeys(every))


def in_order(models: list[str], repository: Path = REPOSITORY) -> list[str]:
    """Models so that none comes before one that it needs: their order as it is, ensembles after their members."""
    return sorted(models, key=lambda model: depth(model, repository))


def depth(model: str, repository: Path) -> int:
    """0 for a model that needs no other one, and one more than its deepest member for an ensemble."""
    if not isinstance(recipes.load(model), Pipeline):
        return 0
    return 1 + max((depth(member, repository) for member in members(model, repository)), default=0)


def classifier_of(model: str, repository: Path = REPOSITORY) -> str:
    """The one member of an ensemble that is trained.

    Raises:
        RecipeError: there is none, or more than one.
    """
    trained = [each for each in all_members(model, repository) if isinstance(recipes.load(each), Recipe)]
    if len(trained) != 1:
        raise RecipeError(f"{model}: expected one trained model among its members, got {', '.join(trained) or 'none'}")
    return trained[0]


def data_of(model: str, repository: Path = REPOSITORY) -> ImageData:
    """The data that an ensemble's classifier was trained and tested on."""
    classifier = classifier_of(model, repository)
    manifest = read_manifest(classifier, newest(classifier, repository), repository)
    return datasets.load(manifest["data"]["name"])


def newest(model: str, repository: Path = REPOSITORY) -> int:
    """The version that an ensemble would use.

    Raises:
        RepositoryError: there is none.
    """
    published = versions(model, repository)
    if not published:
        raise RepositoryError(f"{model} has no version, and a pipeline needs it; run `python -m tools.export {model}`")
    return published[-1]


def outdated(repository: Path = REPOSITORY) -> list[str]:
    """Published pipelines that were proven with older versions of their members than they use now."""
    # A repository of somebody's own need not hold them.
    published = [name for name in recipes.names() if versions(name, repository)]
    pipelines = [name for name in published if isinstance(recipes.load(name), Pipeline)]
    return [name for name in in_order(pipelines, repository) if not fresh(name, repository)]


def fresh(model: str, repository: Path) -> bool:
    """Whether a pipeline's manifest names the versions of its members that are the newest now."""
    stated = read_manifest(model, newest(model, repository), repository).get("steps", {})
    now = {member: max(versions(member, repository), default=0) for member in all_members(model, repository)}
    return bool(stated == now)


class Composition:
    """A model with all that it needs, called as the server would call it: arrays by name, batch first."""

    def __init__(self, model: str, repository: Path = REPOSITORY, alone: Alone | None = None) -> None:
        self.config = read_config(model, repository=repository)
        self.steps = [
            (Composition(step.model_name, repository, alone), dict(step.input_map), dict(step.output_map))
            for step in self.config.ensemble_scheduling.step
        ]
        self.run: Run = self.run_steps if self.steps else (alone or single)(model, repository)

    def __call__(self, inputs: Arrays) -> Arrays:
        """All outputs for all inputs."""
        return self.run(inputs)

    def run_steps(self, inputs: Arrays) -> Arrays:
        """What an ensemble's members make of its inputs, one after the other."""
        tensors = dict(inputs)
        for step, takes, gives in self.steps:
            outputs = step({name: tensors[tensor] for name, tensor in takes.items()})
            tensors |= {tensor: outputs[name] for name, tensor in gives.items()}
        return {output.name: tensors[output.name] for output in self.config.output}


def single(model: str, repository: Path) -> Run:
    """The newest version of a model that is no ensemble."""
    folder = version_path(model, newest(model, repository), repository)
    if (folder / MODEL_FILE).is_file():
        return script(folder, model, repository)
    run: Run = python_step(folder).run
    return run


def script(folder: Path, model: str, repository: Path) -> Run:
    """A TorchScript file as a function of arrays."""
    module = torchscript.load(folder / MODEL_FILE)
    return bound(module, module, model, repository)


def bound(network: nn.Module, module: torch.jit.ScriptModule, model: str, repository: Path) -> Run:
    """A network as a function of arrays, its inputs and outputs in the order of a TorchScript file of it."""
    inputs, outputs = proof.prove_signature(module, model, repository)

    def run(arrays: Arrays) -> Arrays:
        returned = torchscript.outputs(network, *(torch.from_numpy(arrays[name]) for name in inputs.names))
        return {output.name: returned[output.index].numpy() for output in outputs}

    return run


def python_step(folder: Path) -> Any:
    """The `Step` of a version folder for the Python backend, made as its adapter makes it.

    Raises:
        ProofError: the files do not stand on their own.
    """
    try:
        with importing_from(folder):
            module = load_module("step", folder / "step.py")
            return module.Step(str(folder))
    except (ImportError, AttributeError, OSError, SyntaxError) as error:
        raise proof.ProofError(f"{folder / 'step.py'} does not stand on its own: {error}") from error


@contextmanager
def importing_from(folder: Path) -> Iterator[None]:
    """Let modules be imported from a folder in the block; afterwards nobody else finds them there."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            if getattr(sys.modules[name], "__file__", None) and str(folder) in str(sys.modules[name].__file__):
                del sys.modules[name]


def load_module(name: str, path: Path) -> ModuleType:
    """A module from a file, kept out of sys.modules."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    # Bytecode beside the source would become a part of the version.
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


def picture(pixels: Array) -> Image.Image:
    """Uint8 [H, W, C] as an image."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def png(pixels: Array) -> bytes:
    """Uint8 [H, W, C] as a PNG file."""
    stream = io.BytesIO()
    picture(pixels).save(stream, "PNG")
    return stream.getvalue()


def predictions(model: str, data: ImageData, repository: Path = REPOSITORY) -> Labels:
    """The class that a pipeline gives each test image: int64 [N]."""
    composed, contract = Composition(model, repository), read_contract(model, repository)
    (wanted,) = contract.inputs
    files = wanted.datatype == "STRING"
    inputs = np.array([[png(each)] for each in data.test_images], np.object_) if files else data.test_images
    parts = range(0, len(inputs), contract.max_batch_size)
    answers = [composed({wanted.name: inputs[start : start + contract.max_batch_size]}) for start in parts]
    return np.concatenate([classes_of(answer, data.classes) for answer in answers])


def classes_of(outputs: Arrays, classes: Sequence[str]) -> Labels:
    """The class that answers name: a pipeline's by index or by label, a classifier's by its largest logit; int64 [N].

    Labels that are none of the classes, as a server's may be, count as class -1.
    """
    if "INDEX" in outputs:
        return outputs["INDEX"][:, 0].astype(np.int64)
    if "LABEL" in outputs:
        names = [label.decode() for label in outputs["LABEL"][:, 0]]
        return np.array([classes.index(name) if name in classes else -1 for name in names], np.int64)
    best: Labels = next(iter(outputs.values())).argmax(1).astype(np.int64)
    return best
