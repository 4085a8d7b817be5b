"""Where an imported network comes from: a class in a Python file, a TorchScript file or torchvision, with its weights.

    network = origin.network(Imported(module="models/towers.py:Towers", checkpoint="towers.pt"))

A user's file is run as Python runs it, with its folder on the path, or as a part of its package if it is in one.
"""

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from tools import torchscript
from tools.export import torchvision_models
from tools.export.weights import last_line, load_weights
from tools.recipes import Imported, RecipeError
from tools.repository import ROOT


def network(recipe: Imported) -> nn.Module:
    """The network of a recipe in eval mode, with its weights.

    Raises:
        RecipeError: it cannot be had; the message says what is missing and which flag of `tools.new` says it.
    """
    # What has no weights gets the same random ones each time.
    torch.manual_seed(0)
    built = build(recipe)
    if recipe.checkpoint:
        load_weights(built, path_of(recipe.checkpoint))
    if recipe.torchvision:
        built = torchvision_models.served_form(recipe.torchvision, built)
    # A frozen TorchScript file has no modes any more.
    return built.eval() if hasattr(built, "training") else built


def build(recipe: Imported) -> nn.Module:
    """The network as its maker made it, before its checkpoint."""
    if recipe.torchscript:
        return from_torchscript(path_of(recipe.torchscript))
    if recipe.torchvision:
        return torchvision_models.build(recipe)
    return from_module(recipe.module or "", recipe.arguments)


def path_of(text: str) -> Path:
    """A file that a recipe names.

    Raises:
        RecipeError: there is none.
    """
    path = ROOT / Path(text).expanduser()
    if not path.is_file():
        raise RecipeError(f"{path} does not exist, or is no file; give its path")
    return path


def sources(recipe: Imported) -> dict[str, Any]:
    """What a version was made from, for its manifest: names, and the SHA-256 of the files."""
    files = [text for text in ((recipe.module or "").rpartition(":")[0], recipe.torchscript, recipe.checkpoint) if text]
    return {
        **{key: getattr(recipe, key) for key in ("module", "torchscript", "torchvision", "weights", "checkpoint")},
        "arguments": dict(recipe.arguments),
        "sha256": {text: hashlib.sha256(path_of(text).read_bytes()).hexdigest() for text in files},
    }


def from_torchscript(path: Path) -> torch.jit.ScriptModule:
    """A TorchScript file.

    Raises:
        RecipeError: it is none.
    """
    try:
        return torchscript.load(path)
    except (RuntimeError, ValueError, OSError) as error:
        raise RecipeError(
            f"{path} is not a TorchScript file that torch {torch.__version__} can load: {last_line(error)}; "
            "a state dict goes to --checkpoint, beside the --module or --torchvision that it belongs to"
        ) from error


def from_module(text: str, arguments: Mapping[str, Any]) -> nn.Module:
    """The network that "path.py:Class" names.

    Raises:
        RecipeError: the file, the name or the arguments are not right.
    """
    file, separator, name = text.rpartition(":")
    if not separator or not file.endswith(".py"):
        raise RecipeError(f"expected --module PATH.py:CLASS, got '{text}'")
    module = run_file(path_of(file))
    found = getattr(module, name, None)
    if found is None:
        raise RecipeError(f"{file} has no '{name}'; its networks: {', '.join(networks_in(module)) or 'none'}")
    return made(found, f"{file}:{name}", arguments)


def made(found: Any, what: str, arguments: Mapping[str, Any]) -> nn.Module:
    """An instance as it is, or what a class or function makes of the arguments."""
    if isinstance(found, nn.Module):
        return found
    if not callable(found) or (inspect.isclass(found) and not issubclass(found, nn.Module)):
        raise RecipeError(f"{what} is neither a torch.nn.Module nor a function that returns one")
    try:
        inspect.signature(found).bind(**arguments)
    except TypeError as error:
        raise RecipeError(
            f"{what}{inspect.signature(found)}: {error}; give its arguments as JSON, for example "
            f"--arguments '{example_arguments(found)}'"
        ) from error
    try:
        built = found(**arguments)
    except Exception as error:  # Whatever a user's code raises.
        raise RecipeError(f"{what} failed: {type(error).__name__}: {error}") from error
    if not isinstance(built, nn.Module):
        raise RecipeError(f"{what} returned {type(built).__name__}; expected a torch.nn.Module")
    return built


def example_arguments(found: Any) -> str:
    """What --arguments looks like for a class: a number for each argument that has no default."""
    needed = [each.name for each in inspect.signature(found).parameters.values() if each.default is each.empty]
    return "{" + ", ".join(f'"{name}": 10' for name in needed) + "}"


def networks_in(module: ModuleType) -> list[str]:
    """Names of the networks that a file defines itself."""
    return [
        name
        for name, each in vars(module).items()
        if isinstance(each, nn.Module)
        or (inspect.isclass(each) and issubclass(each, nn.Module) and each.__module__ == module.__name__)
    ]


def run_file(path: Path) -> ModuleType:
    """A Python file as a module; its neighbours can be imported by it.

    Raises:
        RecipeError: it fails.
    """
    top, name = package_of(path)
    sys.path.insert(0, str(top))
    try:
        return importlib.import_module(name) if "." in name else run_alone(path)
    except Exception as error:  # Whatever a user's code raises.
        raise RecipeError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(top))
        # What it imports later, while it runs, must not hide what we import ourselves.
        sys.path.append(str(top))


def package_of(path: Path) -> tuple[Path, str]:
    """The folder from which a file is imported, and its dotted name there."""
    folder, name = path.resolve().parent, path.stem
    while (folder / "__init__.py").is_file():
        folder, name = folder.parent, f"{folder.name}.{name}"
    return folder, name


def run_alone(path: Path) -> ModuleType:
    """A file that is no part of a package, under a name that is nobody else's."""
    name = f"imported_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    # TorchScript and dataclasses look classes up there.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
