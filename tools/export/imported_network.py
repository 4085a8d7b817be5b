"""An imported network: a class in a Python file, a TorchScript file or a torchvision model, with its weights.

network = imported_network.load(Imported(module="models/towers.py:Towers", checkpoint="towers.pt"))

"""

import hashlib
import importlib
import importlib.util
import inspect
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from tools import torchscript
from tools.export import torchvision_models
from tools.export.agreement import last_line
from tools.recipes import Imported, RecipeError
from tools.repository import ROOT
from tools.torchvision_import import make_importable, use_plain_nms

# Keys under which training scripts store the state dict.
_STATE_DICTS = ("state_dict", "model_state_dict", "model", "network", "net")


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
            raise RecipeError(
                f"{file} is not a TorchScript file that torch {torch.__version__} can load: {last_line(error)}; "
                "give a state dict as --checkpoint, with the --module or --torchvision that it belongs to"
            ) from error
    elif recipe.torchvision:
        network = torchvision_models.build(recipe)
    else:
        make_importable()
        network = unwrapped(_load_module(recipe.module or "", recipe.arguments))
        use_plain_nms()
        _switch_caches_off(network)
    if recipe.checkpoint:
        _load_weights(network, _existing(recipe.checkpoint))
    if recipe.torchvision:
        network = torchvision_models.wrap_detector(recipe.torchvision, network)
    # A frozen TorchScript file has no train and eval modes.
    return network.eval() if hasattr(network, "training") else network


def sources(recipe: Imported) -> dict[str, Any]:
    """Describe what a version is made from, for its manifest: names, and the SHA-256 of the files."""
    files = [text for text in ((recipe.module or "").rpartition(":")[0], recipe.torchscript, recipe.checkpoint) if text]
    return {
        **{key: getattr(recipe, key) for key in ("module", "torchscript", "torchvision", "weights", "checkpoint")},
        "arguments": dict(recipe.arguments),
        "sha256": {text: hashlib.sha256(_existing(text).read_bytes()).hexdigest() for text in files},
    }


def _existing(text: str) -> Path:
    path = ROOT / Path(text).expanduser()
    if not path.is_file():
        raise RecipeError(f"{path} does not exist or is not a file; correct the path")
    return path


def _load_module(text: str, arguments: Mapping[str, Any]) -> nn.Module:
    file, separator, name = text.rpartition(":")
    if not separator or not file.endswith(".py"):
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
        raise RecipeError(f"{name} failed: {type(error).__name__}: {error}") from error
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


def _load_weights(network: nn.Module, path: Path) -> None:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise RecipeError(
            f"{path} is not a checkpoint that torch loads without running code from it: {last_line(error)}; "
            "save one with torch.save(network.state_dict(), PATH)"
        ) from error
    own = network.state_dict()
    state = _without_prefix(_state_dict(content, path), set(own))
    differences = [f"{name} is missing" for name in own if name not in state]
    differences += [f"{name} is not in the network" for name in state if name not in own]
    for name, tensor in own.items():
        if name in state and state[name].shape != tensor.shape:
            differences.append(f"{name} is {list(state[name].shape)}, the network has {list(tensor.shape)}")
    if differences:
        more = f" and {len(differences) - 4} more" if len(differences) > 4 else ""
        raise RecipeError(
            f"{path} belongs to another network: {'; '.join(differences[:4])}{more}; correct --checkpoint or "
            "--arguments"
        )
    network.load_state_dict(state)


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    kind = f"a {type(content).__name__}"
    if isinstance(content, Mapping):
        for candidate in (content, *(content.get(key) for key in _STATE_DICTS)):
            is_state = isinstance(candidate, Mapping) and all(isinstance(value, Tensor) for value in candidate.values())
            if candidate and is_state:
                return dict(candidate)
        kind = f"a dict with {', '.join(map(str, list(content)[:8]))}"
    raise RecipeError(f"{path} holds no state dict, itself or under {', '.join(_STATE_DICTS)}; it holds {kind}")


def _without_prefix(state: dict[str, Tensor], own: set[str]) -> dict[str, Tensor]:
    # Wrappers (DataParallel, compile, Lightning) put a prefix before every name.
    first = next(iter(state))
    for prefix in (first[: at + 1] for at, letter in enumerate(first) if letter == "."):
        if {name.removeprefix(prefix) for name in state if name.startswith(prefix)} == own and len(state) == len(own):
            return {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state
