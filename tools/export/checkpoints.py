"""A checkpoint's weights for a network, wherever training scripts store them: `FILE`, or `FILE#key` to choose."""

import argparse
import pickle
import types
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path, PosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tools.export.agreement import last_line
from tools.model_files import kind_of
from tools.recipes import RecipeError
from tools.repository import ROOT

State = dict[str, Tensor]
_DEPTH = 3
# What training scripts store beside the weights: settings and numbers, which run no code when they are read.
_HARMLESS = (argparse.Namespace, types.SimpleNamespace, defaultdict, dict, PosixPath, np.ndarray, np.dtype)


def split_key(checkpoint: str) -> tuple[str, str]:
    """The file and the key of `FILE#key`; an empty key if there is none."""
    file, _, key = checkpoint.rpartition("#")
    is_whole = not file or (ROOT / Path(checkpoint).expanduser()).is_file()
    return (checkpoint, "") if is_whole else (file, key)


def load_weights(network: nn.Module, path: Path, key: str = "") -> None:
    """Load a checkpoint's weights into a network.

    Args:
        network: the one that they belong to.
        path: the checkpoint.
        key: which of its state dicts, with dots between nested keys; empty for the only one that fits.

    Raises:
        RecipeError: the file is no checkpoint, or belongs to another network.
    """
    states, own = dict(_states(_read(path))), network.state_dict()
    if key:
        states = {name: state for name, state in states.items() if name == key} or _no_such_key(path, key, states)
    if not states:
        raise RecipeError(
            f"{path} holds no state dict, itself or under a key; save one: torch.save(network.state_dict(), PATH)"
        )
    states = {name: _without_prefix(state, set(own)) for name, state in states.items()}
    fitting = [name for name, state in states.items() if not _differences(own, state)]
    if len(fitting) > 1:
        raise RecipeError(
            f"{path} holds several sets of weights that fit: {', '.join(fitting)}; choose one: --checkpoint "
            f"'{path}#{fitting[-1]}'"
        )
    if not fitting:
        nearest = max(states, key=lambda name: len(own.keys() & states[name].keys()))
        raise _misfit(path, nearest, _differences(own, states[nearest]))
    network.load_state_dict(states[fitting[0]])


def _no_such_key(path: Path, key: str, states: Mapping[str, State]) -> Any:
    keys = ", ".join(name or "no key" for name in states) or "none"
    raise RecipeError(f"{path} has no state dict under '{key}'; it has them under {keys}")


def _misfit(path: Path, key: str, differences: list[str]) -> RecipeError:
    more = f" and {len(differences) - 4} more" if len(differences) > 4 else ""
    under = f" (under '{key}')" if key else ""
    return RecipeError(
        f"{path}{under} belongs to another network: {'; '.join(differences[:4])}{more}; correct --checkpoint or "
        "--arguments"
    )


def _read(path: Path) -> Any:
    kind = kind_of(path)
    if kind.title == "a safetensors file":
        from safetensors.torch import load_file

        return load_file(path)
    if not (kind.is_state_dict or kind.classes):
        raise RecipeError(f"{path} is {kind.title}, not a checkpoint; {kind.remedy}")
    numbers = [np.core.multiarray.scalar, *(type(np.dtype(code)) for code in "?bBhHiIlLqQefd")]  # type: ignore[attr-defined]
    allowed = [*_HARMLESS, np.core.multiarray._reconstruct, *numbers]  # type: ignore[attr-defined]
    try:
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, pickle.UnpicklingError) as error:
        reason = f"is {kind.title}" if kind.classes else f"cannot be read: {last_line(error)}"
        raise RecipeError(f"{path} {reason}; {kind.remedy}") from error


def _states(content: Any, key: str = "", depth: int = _DEPTH) -> Iterator[tuple[str, State]]:
    """The state dicts in a checkpoint, by key."""
    if not isinstance(content, Mapping) or not content or depth == 0:
        return
    if all(isinstance(value, Tensor) and isinstance(name, str) for name, value in content.items()):
        yield key, dict(content)
        return
    for name, value in content.items():
        yield from _states(value, f"{key}.{name}" if key else str(name), depth - 1)


def _differences(own: Mapping[str, Tensor], state: State) -> list[str]:
    found = [f"{name} is missing" for name in own if name not in state]
    found += [f"{name} is not in the network" for name in state if name not in own]
    for name, tensor in own.items():
        if name in state and state[name].shape != tensor.shape:
            found.append(f"{name} is {list(state[name].shape)}, the network has {list(tensor.shape)}")
    return found


def _without_prefix(state: State, own: set[str]) -> State:
    # Wrappers (DataParallel, compile, Lightning) put a prefix before every name.
    first = next(iter(state))
    for prefix in (first[: at + 1] for at, letter in enumerate(first) if letter == "."):
        if {name.removeprefix(prefix) for name in state if name.startswith(prefix)} == own and len(state) == len(own):
            return {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state
