"""Versions of models that were made elsewhere: what `tools.export` does for a recipe that is an `Imported`."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from tools.backends.pytorch import binding
from tools.contract import Value, read_contract
from tools.export import origin, proof
from tools.export.calling import Served, calling
from tools.export.conversion import Target, convert
from tools.export.remarks import examples
from tools.recipes import Imported
from tools.repository import MODEL_FILE, as_triton_json, read_config

EXAMPLE_BATCH = 2  # With one row, what tracing fixes by accident looks right more often.


def fill(model: str, recipe: Imported, repository: Path, folder: Path) -> dict[str, Any]:
    """Write and prove an imported network; what it was made from, for its manifest.

    Raises:
        ProofError: no way to write it gives a file that answers as the network does.
        RecipeError: the network cannot be had.
    """
    network = origin.network(recipe)
    served = served_as(network, model, recipe, repository)
    values = example_values(served, model, recipe, repository)
    return {
        "imported": origin.sources(recipe),
        "parameters": sum(each.numel() for each in network.parameters()),
        **convert(served, values, Target(model, repository, folder / MODEL_FILE, recipe.tolerance, recipe.dims)),
    }


def served_as(network: nn.Module, model: str, recipe: Imported, repository: Path) -> Served:
    """The network, called with the inputs of config.pbtxt."""
    contract = read_contract(model, repository)
    return Served(network, calling(network, [spec.name for spec in contract.inputs], recipe.squeezed), contract.batched)


def input_names(served: Served, model: str, repository: Path) -> tuple[str, ...]:
    """The inputs of config.pbtxt in the order of the served file's arguments."""
    names = [spec.name for spec in read_contract(model, repository).inputs]
    return binding.order(names, served.call.names)


def output_places(model: str, repository: Path) -> dict[str, int]:
    """The outputs of config.pbtxt, and the place of each in what `forward` returns."""
    config = as_triton_json(read_config(model, repository=repository))
    return {output.name: output.index for output in binding.bind_outputs(config)}


def example_values(served: Served, model: str, recipe: Imported, repository: Path) -> list[Value]:
    """A random input that config.pbtxt admits, in the order of the served file's arguments."""
    specs = proof.shaped(read_contract(model, repository).inputs, recipe.dims)[0]
    ordered = [specs[name] for name in input_names(served, model, repository)]
    return examples(ordered, EXAMPLE_BATCH if served.batched else 0)


def is_quantized(network: nn.Module) -> bool:
    """Whether a network computes in int8, which exists for the CPU only."""
    if isinstance(network, torch.jit.ScriptModule):
        return "quantized::" in str(network.inlined_graph)
    return any(".quantized" in type(each).__module__ for each in network.modules())
