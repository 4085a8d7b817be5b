"""An imported network: a class in a Python file, a TorchScript file or a torchvision model, with its weights.

network = imported_network.load(Imported(module="models/towers.py:Towers", checkpoint="towers.pt"))

"""

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MethodType, ModuleType
from typing import Any

import torch
from torch import nn

from tools import torchscript
from tools.export import torchvision_models
from tools.export.advice import advice
from tools.export.agreement import last_line
from tools.export.checkpoints import load_weights, split_key
from tools.model_files import kind_of
from tools.recipes import Imported, RecipeError
from tools.repository import ROOT
from tools.torchvision_import import make_importable, use_plain_nms


def load(recipe: Imported) -> nn.Module:
    """Build the network of a recipe in eval mode, with its weights.

    Raises:
        RecipeError: something is missing or invalid; the message names the flag of `tools.new` that sets it.
    """
    torch.manual_seed(0)  # A network without weights gets the same random ones every time.
    if recipe.torchscript:
        file = _existing(recipe.torchscript)
        try:
            network: nn.Module = torchscript.load(file)
        except (RuntimeError, ValueError, OSError) as error:
            raise _not_torchscript(file, error) from error
    elif recipe.torchvision:
        network = torchvision_models.build(recipe)
    else:
        make_importable()
        network = unwrapped(_load_module(recipe.module or "", recipe.arguments))
        use_plain_nms()
        _switch_caches_off(network)
    if recipe.checkpoint:
        path, key = split_key(recipe.checkpoint)
        load_weights(network, _existing(path), key)
    if recipe.torchvision:
        network = torchvision_models.wrap_detector(recipe.torchvision, network)
    # A frozen TorchScript file has no train and eval modes.
    return network.eval() if hasattr(network, "training") else network


def sources(recipe: Imported) -> dict[str, Any]:
    """Describe what a version is made from, for its manifest: names, and the SHA-256 of the files."""
    given = ((recipe.module or "").rpartition(":")[0], recipe.torchscript, split_key(recipe.checkpoint or "")[0])
    files = [text for text in given if text]
    return {
        **{key: getattr(recipe, key) for key in ("module", "torchscript", "torchvision", "weights", "checkpoint")},
        "arguments": dict(recipe.arguments),
        "sha256": {text: hashlib.sha256(_existing(text).read_bytes()).hexdigest() for text in files},
    }


def _not_torchscript(file: Path, error: Exception) -> RecipeError:
    kind = kind_of(file)
    if kind.is_torchscript:
        reason = advice(str(error), nn.Module(), ()) or last_line(error)
        return RecipeError(f"torch {torch.__version__} cannot load {file}: {reason}")
    return RecipeError(f"--torchscript {file} is {kind.title}; {kind.remedy}")


def _existing(text: str) -> Path:
    path = ROOT / Path(text).expanduser()
    if not path.is_file():
        raise RecipeError(f"{path} does not exist or is not a file; correct the path")
    return path


def _load_module(text: str, arguments: Mapping[str, Any]) -> nn.Module:
    file, separator, name = text.rpartition(":")
    if not separator or not file.endswith(".py"):
        if (path := ROOT / Path(text).expanduser()).is_file() and path.suffix != ".py":
            raise RecipeError(f"--module {text} is {(kind := kind_of(path)).title}; {kind.remedy}")
        raise RecipeError(f"expected --module PATH.py:CLASS, got '{text}'")
    module = _run_file(_existing(file))
    member = getattr(module, name, None)
    if member is None:
        networks = [
            name
            for name, member in vars(module).items()
            if isinstance(member, nn.Module)
            or (inspect.isclass(member) and issubclass(member, nn.Module) and member.__module__ == module.__name__)
        ]
        raise RecipeError(f"{file} has no '{name}'; its networks: {', '.join(networks) or 'none'}")
    return _instantiate(member, f"{file}:{name}", arguments)


def _instantiate(member: Any, name: str, arguments: Mapping[str, Any]) -> nn.Module:
    if isinstance(member, nn.Module):
        return member
    if not callable(member) or (inspect.isclass(member) and not issubclass(member, nn.Module)):
        raise RecipeError(f"{name} is neither a torch.nn.Module nor a function that returns one")
    signature = inspect.signature(member)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        known = signature.parameters.values()
        required = [parameter.name for parameter in known if parameter.default is parameter.empty]
        example = "{" + ", ".join(f'"{argument}": 10' for argument in required) + "}"
        raise RecipeError(
            f"{name}{signature}: {error}; give its arguments as JSON, for example --arguments '{example}'"
        ) from error
    try:
        network = member(**arguments)
    except Exception as error:  # Whatever a user's code raises.
        remedy = advice(str(error), nn.Module(), ())
        message = f"{name} failed: {type(error).__name__}: {error}"
        raise RecipeError("; ".join(filter(None, (message, remedy)))) from error
    if not isinstance(network, nn.Module):
        raise RecipeError(f"{name} returned {type(network).__name__}; expected a torch.nn.Module")
    return network


def unwrapped(network: nn.Module) -> nn.Module:
    """Take a network, and those in it, out of what compiles or distributes them: torch.compile, DataParallel, DDP."""
    while isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel) or hasattr(network, "_orig_mod"):
        inner: Any = network
        network = inner._orig_mod if hasattr(network, "_orig_mod") else inner.module
    for name, child in network.named_children():
        setattr(network, name, unwrapped(child))
    vars(network).pop("_compiled_call_impl", None)  # Of network.compile().
    if original := getattr(network.forward, "_torchdynamo_orig_callable", None):
        network.forward = original if inspect.ismethod(original) else MethodType(original, network)
    return network


def _switch_caches_off(network: nn.Module) -> None:
    # transformers' decoders return a cache of what they have read, which no server can pass on.
    for module in network.modules():
        if getattr(config := getattr(module, "config", None), "use_cache", False):
            vars(config)["use_cache"] = False


def _run_file(path: Path) -> ModuleType:
    # As Python would: with its folder on the path, or as part of its package if it is in one.
    top, name = path.resolve().parent, path.stem
    while (top / "__init__.py").is_file():
        top, name = top.parent, f"{top.name}.{name}"
    sys.path.insert(0, str(top))
    try:
        return importlib.import_module(name) if "." in name else _run_alone(path)
    except Exception as error:  # Whatever a user's code raises.
        raise RecipeError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(top))
        # It may import its neighbours later, while it runs; they must not shadow modules that we import.
        sys.path.append(str(top))


def _run_alone(path: Path) -> ModuleType:
    name = f"imported_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # TorchScript and dataclasses look classes up there.
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
