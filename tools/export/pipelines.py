"""Ensembles without a server: their members, and the composition of what the members compute.

Export measures a pipeline's accuracy this way, with the files that it serves.
"""

import importlib.util
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from clients.contract import Array
from tools import datasets, recipes, torchscript
from tools.contract import array_of, read_contract, value_of
from tools.datasets import ImageData, Labels
from tools.export import proof
from tools.recipes import Pipeline, Recipe, RecipeError
from tools.repository import MODEL_FILE, REPOSITORY, RepositoryError, read_config, read_manifest, version_path, versions

Arrays = Mapping[str, Array]
Run = Callable[[Arrays], Arrays]


def members(model: str, repository: Path = REPOSITORY) -> list[str]:
    """List the members of an ensemble in its config's order; empty for any other model."""
    return [step.model_name for step in read_config(model, repository=repository).ensemble_scheduling.step]


def all_members(model: str, repository: Path = REPOSITORY) -> list[str]:
    """List the members of an ensemble, and theirs, each before the models that need it."""
    every: list[str] = []
    for member in members(model, repository):
        every += [*all_members(member, repository), member]
    return list(dict.fromkeys(every))


def in_order(models: list[str], repository: Path = REPOSITORY) -> list[str]:
    """Sort models so that ensembles follow their members; otherwise their order is kept."""

    def depth(model: str) -> int:
        # 0 for a model by itself; for an ensemble one more than its deepest member.
        if not isinstance(recipes.load(model), Pipeline):
            return 0
        return 1 + max(map(depth, members(model, repository)), default=0)

    return sorted(models, key=depth)


def classifier_of(model: str, repository: Path = REPOSITORY) -> str:
    """Find the one member of an ensemble that is trained; RecipeError if there is none, or more than one."""
    trained = [name for name in all_members(model, repository) if isinstance(recipes.load(name), Recipe)]
    if len(trained) != 1:
        raise RecipeError(f"{model}: expected one trained model among its members, got {', '.join(trained) or 'none'}")
    return trained[0]


def data_of(model: str, repository: Path = REPOSITORY) -> ImageData:
    """Load the data that an ensemble's classifier was trained and tested on."""
    classifier = classifier_of(model, repository)
    manifest = read_manifest(classifier, newest(classifier, repository), repository)
    return datasets.load(manifest["data"]["name"])


def newest(model: str, repository: Path = REPOSITORY) -> int:
    """Return the newest version of a model, which an ensemble would use; RepositoryError if there is none."""
    published = versions(model, repository)
    if not published:
        raise RepositoryError(f"{model} has no version, but a pipeline needs one; run `python -m tools.export {model}`")
    return published[-1]


def outdated(repository: Path = REPOSITORY) -> list[str]:
    """List published pipelines that were proven with older versions of their members than they use now."""

    def is_current(model: str) -> bool:
        proven = read_manifest(model, newest(model, repository), repository).get("steps", {})
        now = {member: max(versions(member, repository), default=0) for member in all_members(model, repository)}
        return bool(proven == now)

    # A repository other than this one's need not hold them.
    published = [name for name in recipes.names() if versions(name, repository)]
    pipelines = [name for name in published if isinstance(recipes.load(name), Pipeline)]
    return [name for name in in_order(pipelines, repository) if not is_current(name)]


def compose(model: str, repository: Path = REPOSITORY, alone: Callable[[str, Path], Run] | None = None) -> Run:
    """Return a model with its members as a function, called as the server would: arrays by name, batch first.

    `alone` makes the function of a model that is not an ensemble (default: from its newest version).
    """
    config = read_config(model, repository=repository)
    if not config.ensemble_scheduling.step and alone:
        return alone(model, repository)
    if not config.ensemble_scheduling.step:
        folder = version_path(model, newest(model, repository), repository)
        if not (folder / MODEL_FILE).is_file():
            return python_step(folder).run  # type: ignore[no-any-return]
        module = torchscript.load(folder / MODEL_FILE)
        return array_function(module, module, model, repository)
    steps = [
        (compose(step.model_name, repository, alone), dict(step.input_map), dict(step.output_map))
        for step in config.ensemble_scheduling.step
    ]

    def run(inputs: Arrays) -> Arrays:
        tensors = dict(inputs)
        for step, takes, gives in steps:
            outputs = step({name: tensors[tensor] for name, tensor in takes.items()})
            tensors |= {tensor: outputs[name] for name, tensor in gives.items()}
        return {output.name: tensors[output.name] for output in config.output}

    return run


def array_function(network: nn.Module, module: torch.jit.ScriptModule, model: str, repository: Path) -> Run:
    """Turn a network into a function of arrays, with inputs and outputs in the order of its TorchScript file."""
    inputs, outputs = proof.prove_signature(module, model, repository)

    def run(arrays: Arrays) -> Arrays:
        returned = torchscript.outputs(network, *(value_of(arrays[name]) for name in inputs.names))
        return {output.name: array_of(returned[output.index]) for output in outputs}

    return run


def python_step(folder: Path) -> Any:
    """Load the `Step` in a version folder as the Python backend's adapter does; ProofError if it needs other files."""
    spec = importlib.util.spec_from_file_location("step", folder / "step.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    known, writes_nothing = set(sys.modules), sys.dont_write_bytecode
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True  # Bytecode next to the source would become part of the version.
    try:
        spec.loader.exec_module(module)
        return module.Step(str(folder))
    except (ImportError, AttributeError, OSError, SyntaxError) as error:
        raise proof.ProofError(f"{folder / 'step.py'} cannot be imported by itself: {error}") from error
    finally:
        sys.dont_write_bytecode = writes_nothing
        sys.path.remove(str(folder))
        # Nobody else must find the modules that it has imported from there.
        for name in set(sys.modules) - known:
            if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]


def picture(pixels: Array) -> Image.Image:
    """Convert uint8 [H, W, C] to an image."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def png(pixels: Array) -> bytes:
    """Encode uint8 [H, W, C] as a PNG file."""
    stream = io.BytesIO()
    picture(pixels).save(stream, "PNG")
    return stream.getvalue()


def picture_files(images: Array) -> Array:
    """PNG files of uint8 [N, H, W, C]: object [N, 1], as a model that takes files gets them."""
    return np.array([[png(pixels)] for pixels in images], np.object_)


def inputs_of(model: str, images: Array, repository: Path = REPOSITORY) -> Arrays:
    """Images uint8 [N, H, W, C] as the one input of a pipeline: pixels, or files where it takes texts."""
    (wanted,) = read_contract(model, repository).inputs
    return {wanted.name: picture_files(images) if wanted.datatype == "STRING" else images}


def predictions(model: str, data: ImageData, repository: Path = REPOSITORY) -> Labels:
    """Predict the class of each test image with a pipeline: int64 [N]."""
    composed, size = compose(model, repository), read_contract(model, repository).max_batch_size
    (name, array), *_ = inputs_of(model, data.test_images, repository).items()
    answers = [composed({name: array[start : start + size]}) for start in range(0, len(array), size)]
    return np.concatenate([classes_of(answer, data.classes) for answer in answers])


def classes_of(outputs: Arrays, classes: Sequence[str]) -> Labels:
    """Read the predicted classes from outputs: a pipeline's INDEX or LABEL, a classifier's largest logit; int64 [N].

    Labels that are not among the classes give class -1.
    """
    if "INDEX" in outputs:
        return outputs["INDEX"][:, 0].astype(np.int64)
    if "LABEL" in outputs:
        names = [label.decode() for label in outputs["LABEL"][:, 0]]
        return np.array([classes.index(name) if name in classes else -1 for name in names], np.int64)
    best: Labels = next(iter(outputs.values())).argmax(1).astype(np.int64)
    return best
