"""Weights from a checkpoint: a state dict, wherever in the file a training has put it, and of this very network."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tools.recipes import RecipeError

# Keys under which trainings keep a network's state dict beside other things.
STATE_DICTS = ("state_dict", "model_state_dict", "model", "network", "net")
SHOWN = 4


def load_weights(network: nn.Module, path: Path) -> None:
    """Load a checkpoint's state dict into a network, all of it.

    Raises:
        RecipeError: the file holds none, or one of another network.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise RecipeError(
            f"{path} is not a checkpoint that torch loads without running code from it: {last_line(error)}; "
            "save one with torch.save(network.state_dict(), PATH)"
        ) from error
    state = fitting(state_dict(content, path), network)
    own = network.state_dict()
    problems = [
        *(f"{name} is missing" for name in own if name not in state),
        *(f"{name} is not in the network" for name in state if name not in own),
        *(
            f"{name} is {list(state[name].shape)}, the network has {list(tensor.shape)}"
            for name, tensor in own.items()
            if name in state and state[name].shape != tensor.shape
        ),
    ]
    if problems:
        more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise RecipeError(
            f"{path} is of another network: {'; '.join(problems[:SHOWN])}{more}; correct --checkpoint or --arguments"
        )
    network.load_state_dict(state)


def state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict of a checkpoint, which may keep it beside an optimizer's and other things."""
    if isinstance(content, Mapping):
        for candidate in (content, *(content.get(key) for key in STATE_DICTS)):
            if (
                isinstance(candidate, Mapping)
                and candidate
                and all(isinstance(each, Tensor) for each in candidate.values())
            ):
                return dict(candidate)
    keys = (
        f"a dict with {', '.join(map(str, list(content)[:8]))}"
        if isinstance(content, Mapping)
        else f"a {type(content).__name__}"
    )
    raise RecipeError(f"{path} holds no state dict, itself or under {', '.join(STATE_DICTS)}; it holds {keys}")


def fitting(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The state without the prefix that wrappers (DataParallel, compile, Lightning) put before every name, if any."""
    own = set(network.state_dict())
    first = next(iter(state))
    prefixes = [first[: at + 1] for at, letter in enumerate(first) if letter == "."]
    for prefix in prefixes:
        if {name.removeprefix(prefix) for name in state if name.startswith(prefix)} == own and len(state) == len(own):
            return {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def last_line(error: BaseException) -> str:
    """The end of a message, where torch says what happened."""
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
