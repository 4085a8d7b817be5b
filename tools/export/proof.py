"""What an exported file must show before it is published: it is what was trained, and what config.pbtxt promises.

Each check raises ProofError with what was expected and what came; nothing here writes into the repository.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.jit.frontend import FrontendError
from tritonclient.grpc.model_config_pb2 import ModelInstanceGroup

from clients.contract import Contract, TensorSpec
from tools import torchscript
from tools.backends.pytorch import binding
from tools.contract import Value, example_value, read_contract
from tools.export.agreement import BATCH_TOLERANCE, check_close, check_output, check_rows_apart, described
from tools.export.agreement import TOLERANCE as TOLERANCE
from tools.export.agreement import ProofError as ProofError
from tools.repository import REPOSITORY, as_triton_json, config_path, read_config

BATCH_SIZES = (1, 2, 3, 7)


def prove_scriptable(network: nn.Module, path: Path, model: str, fold: bool = True) -> None:
    """TorchScript can express the network; writes it to the path, as `torchscript.save` does.

    Raises:
        ProofError: it cannot, with torch's message, which says which line.
    """
    try:
        torchscript.save(network, path, fold)
    except (RuntimeError, TypeError, FrontendError) as error:
        raise ProofError(f"{model} cannot be written as TorchScript: {str(error).strip()}") from error


def prove_signature(
    module: torch.jit.ScriptModule, model: str, repository: Path = REPOSITORY
) -> tuple[binding.Inputs, tuple[binding.Output, ...]]:
    """Inputs and outputs bind to `forward` by the rules that the server will use.

    Raises:
        ProofError: names, counts or data types do not fit.
    """
    forward: Any = module.forward  # a ScriptMethod, whatever torch's annotations say
    config = as_triton_json(read_config(model, repository=repository))
    arguments = [
        binding.Argument(argument.name, argument.type.kind())
        for argument in forward.schema.arguments
        if argument.type.kind() != "ClassType"
    ]
    try:
        return binding.bind_inputs(config, arguments), binding.bind_outputs(config)
    except binding.BindingError as error:
        raise ProofError(f"{config_path(model, repository=repository)}: {error}") from error


def prove_device(module: torch.jit.ScriptModule, model: str, repository: Path = REPOSITORY) -> None:
    """No instance is to run on a device for which the file's operators do not exist.

    Raises:
        ProofError: quantized operators would run on a GPU.
    """
    quantized = sorted(set(re.findall(r"quantized::\w+", str(module.inlined_graph))))
    config = read_config(model, repository=repository)
    on_gpu = [group for group in config.instance_group if group.kind != ModelInstanceGroup.KIND_CPU]
    if quantized and (on_gpu or not config.instance_group):
        raise ProofError(
            f"{config_path(model, repository=repository)}: instance groups may run on a GPU, but {quantized[0]} exists "
            "for the CPU only; set `kind: KIND_CPU`"
        )


def prove_same(
    network: nn.Module,
    path: Path,
    model: str,
    repository: Path = REPOSITORY,
    tolerance: float = TOLERANCE,
    dims: Sequence[Mapping[str, tuple[int, ...]]] = (),
) -> float:
    """The file answers as the eager network does, at several batch sizes, with the shapes of config.pbtxt.

    Args:
        network: the eager one.
        path: the TorchScript file.
        model: its name.
        repository: where its config.pbtxt is.
        tolerance: how far the two may be apart, relative and absolute.
        dims: shapes by input to try where config.pbtxt leaves dims open, one after the other.

    Returns:
        The largest absolute difference that was seen.

    Raises:
        ProofError: values, shapes or dtypes differ.
    """
    module = torchscript.load(path)
    contract = read_contract(model, repository)
    inputs, outputs = prove_signature(module, model, repository)
    places = [output.index for output in outputs]
    worst = 0.0
    for specs in shaped(contract.inputs, dims):
        ordered = [specs[name] for name in inputs.names]
        for batch, seed in trials(contract):
            worst = max(worst, compare(network, module, contract, ordered, places, batch, seed, tolerance))
    return worst


def shaped(inputs: Sequence[TensorSpec], dims: Sequence[Mapping[str, tuple[int, ...]]]) -> list[dict[str, TensorSpec]]:
    """Inputs by name, once with each of the given shapes, or once as they are."""
    return [
        {spec.name: replace(spec, dims=shapes.get(spec.name, spec.dims)) for spec in inputs} for shapes in dims or [{}]
    ]


def compare(
    network: nn.Module,
    module: nn.Module,
    contract: Contract,
    inputs: Sequence[TensorSpec],
    places: Sequence[int],
    batch: int,
    seed: int,
    tolerance: float,
) -> float:
    """One batch of random inputs through both; returns their largest difference."""
    generator = torch.Generator().manual_seed(seed)
    arguments = [example_value(spec, batch, generator) for spec in inputs]
    expected, found = (call(side, arguments, batch, contract, places) for side in (network, module))
    worst = 0.0
    for spec, before, after in zip(contract.outputs, expected, found, strict=True):
        check_output(spec, after, batch)
        worst = max(worst, check_close(spec, before, after, batch, tolerance))
    if batch > 1:
        last = [value[-1:] for value in arguments]
        alone = call(module, last, 1, contract, places)
        rows = [value[-1:] for value in found]
        check_rows_apart(contract.outputs, alone, rows, batch, max(tolerance, BATCH_TOLERANCE))
    return worst


def call(
    network: nn.Module, arguments: Sequence[Value], batch: int, contract: Contract, places: Sequence[int]
) -> tuple[Value, ...]:
    """Call a network with what config.pbtxt promises it; its outputs in the order of config.pbtxt."""
    shapes = ", ".join(map(described, arguments))
    try:
        outputs = torchscript.outputs(network, *arguments)
    except Exception as error:  # Whatever a network's Python raises.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise ProofError(
            f"{contract.model} fails on config.pbtxt's input {shapes} (batch {batch}): {reason}"
        ) from error
    if len(outputs) <= max(places):
        wanted = ", ".join(f"{spec.name} at {place}" for spec, place in zip(contract.outputs, places, strict=True))
        raise ProofError(f"{contract.model} returns {len(outputs)} outputs, config.pbtxt has {wanted}, counted from 0")
    return tuple(outputs[place] for place in places)


def batch_sizes(contract: Contract) -> list[int]:
    """The batch sizes to try: a few small ones and the largest, or 0 for a model that takes no batches."""
    if not contract.max_batch_size:
        return [0]
    return sorted({size for size in BATCH_SIZES if size <= contract.max_batch_size} | {contract.max_batch_size})


def trials(contract: Contract) -> list[tuple[int, int]]:
    """Batch sizes and seeds of what to try: one input for each size, or several for a model that takes no batches."""
    sizes = batch_sizes(contract)
    return [(0, seed) for seed in BATCH_SIZES] if sizes == [0] else [(size, size) for size in sizes]


def prove_labels(model: str, classifier: str, repository: Path = REPOSITORY) -> None:
    """A pipeline names the classes as its classifier does, where it has a labels.txt of its own.

    Raises:
        ProofError: the two files differ.
    """
    own, original = (repository / name / "labels.txt" for name in (model, classifier))
    if own.is_file() and own.read_text() != original.read_text():
        raise ProofError(f"{own} differs from {original}; copy that file")


def prove_accuracy(model: str, data: str, accuracy: float, floors: dict[str, float]) -> None:
    """The test accuracy of the file reaches the recipe's floor for this data set.

    Raises:
        ProofError: it does not.
    """
    floor = floors.get(data, 0.0)
    if accuracy < floor:
        raise ProofError(f"{model}: test accuracy {accuracy:.2%} on {data} is below the recipe's floor of {floor:.2%}")


def prove_budget(model: str, parent: str, accuracy: float, parent_accuracy: float, budget: float) -> None:
    """A variant loses no more of its parent's test accuracy than its recipe grants.

    Raises:
        ProofError: it does.
    """
    if accuracy < parent_accuracy - budget:
        raise ProofError(
            f"{model}: test accuracy {accuracy:.2%} is {parent_accuracy - accuracy:.2%} below {parent}'s "
            f"{parent_accuracy:.2%}; the recipe's budget is {budget:.2%}"
        )
