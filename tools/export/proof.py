"""The proofs of an exported file before it is published: it equals the eager network and fulfils config.pbtxt.

Each raises ProofError with what was expected and what came; none writes into the repository.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import product
from pathlib import Path

import torch
from torch import nn
from torch.jit.frontend import FrontendError

from clients.contract import Contract
from tools import placement, torchscript
from tools.backends.pytorch import binding
from tools.contract import Value, read_contract
from tools.export.agreement import (
    BATCH_TOLERANCE,
    TOLERANCE,
    check_close,
    check_output,
    check_rows_independent,
    describe,
    last_line,
)
from tools.export.agreement import ProofError as ProofError
from tools.export.company import prove_rows_independent
from tools.export.samples import Row, Samples
from tools.repository import REPOSITORY, as_triton_json, config_path, read_config

_BATCH_SIZES = (1, 2, 3, 7)


def prove_scriptable(network: nn.Module, path: Path, model: str, fold: bool = True) -> list[str]:
    """Write a network to a TorchScript file; raise ProofError with the line that TorchScript cannot express.

    Returns the lines whose tensors follow the input's device there.
    """
    try:
        return torchscript.save(network, path, fold)
    except (RuntimeError, TypeError, FrontendError) as error:
        raise ProofError(f"{model} cannot be written as TorchScript: {str(error).strip()}") from error


def prove_signature(
    module: torch.jit.ScriptModule, model: str, repository: Path = REPOSITORY
) -> tuple[binding.Inputs, tuple[binding.Output, ...]]:
    """Bind config.pbtxt's inputs and outputs to `forward` as the server would; ProofError if they do not match."""
    config = as_triton_json(read_config(model, repository=repository))
    with binding_proof(model, repository):
        return binding.bind_inputs(config, binding.arguments_of(module.forward)), binding.bind_outputs(config)


@contextmanager
def binding_proof(model: str, repository: Path) -> Iterator[None]:
    """Raise ProofError, with the config's path, where names in config.pbtxt and `forward` do not fit together."""
    try:
        yield
    except binding.BindingError as error:
        raise ProofError(f"{config_path(model, repository=repository)}: {error}") from error


def prove_device(module: torch.jit.ScriptModule, model: str, repository: Path = REPOSITORY) -> None:
    """Raise ProofError if the file cannot compute where an instance might run, which its graph tells without a GPU."""
    config = read_config(model, repository=repository)
    on_gpu, on_cpu = placement.kinds(config)
    place = config_path(model, repository=repository)
    quantized = sorted(set(re.findall(r"quantized::\w+", str(module.inlined_graph))))
    if quantized and on_gpu:
        raise ProofError(
            f"{place}: instance groups may run on a GPU, but {quantized[0]} exists only for the CPU; set "
            "`kind: KIND_CPU`"
        )
    if found := placement.misplaced(module, on_gpu, on_cpu):
        raise ProofError(f"{place}: instances may run on a {'GPU' if on_gpu else 'CPU'}, but {found[0]}")


def prove_same(
    network: nn.Module,
    path: Path,
    model: str,
    repository: Path = REPOSITORY,
    tolerance: float = TOLERANCE,
    samples: Samples | None = None,
) -> float:
    """Prove that a file answers as the eager network does, at several batch sizes, with the shapes of config.pbtxt.

    The two may differ by `tolerance`, relative and absolute; without `samples`, inputs are random. Returns the largest
    absolute difference; raises ProofError if values, shapes or dtypes differ, or a row's answer depends on its batch.
    """
    module, samples = torchscript.load(path), samples or Samples()
    contract = read_contract(model, repository)
    inputs, outputs = prove_signature(module, model, repository)
    places = [output.index for output in outputs]
    worst, close_rows = 0.0, max(tolerance, BATCH_TOLERANCE)
    shaped = [[specs[name] for name in inputs.names] for specs in samples.shaped(contract.inputs)]
    rows = samples.unlike(shaped[0], contract.batched)
    drawn = [(batch, samples.draw(specs, batch, seed)) for specs, (batch, seed) in product(shaped, _trials(contract))]
    drawn += [(int(contract.batched), row.values) for row in _answered(network, rows, contract, places)]
    for batch, values in drawn:
        expected, actual = (call(side, values, batch, contract, places) for side in (network, module))
        for spec, eager, scripted in zip(contract.outputs, expected, actual, strict=True):
            check_output(spec, scripted, batch)
            worst = max(worst, check_close(spec, eager, scripted, batch, tolerance))
        if batch > 1:
            alone = call(module, [value[-1:] for value in values], 1, contract, places)
            check_rows_independent(contract.outputs, alone, [value[-1:] for value in actual], batch, close_rows)
    if contract.batched:
        names = [spec.name for spec in contract.outputs]
        answer = partial(_batch_answer, module, contract, places)
        prove_rows_independent(answer, rows, names, close_rows, contract.max_batch_size)
    return worst


def _trials(contract: Contract) -> list[tuple[int, int]]:
    """Batch sizes and seeds: one input for each size, or several for a model without batching."""
    if contract.batched:
        return [(size, size) for size in batch_sizes(contract.max_batch_size)]
    return [(0, seed) for seed in _BATCH_SIZES]


def _batch_answer(
    module: nn.Module, contract: Contract, places: Sequence[int], values: Sequence[Value]
) -> tuple[Value, ...]:
    return call(module, values, len(values[0]), contract, places)


def _answered(network: nn.Module, rows: Sequence[Row], contract: Contract, places: Sequence[int]) -> Iterator[Row]:
    # Rows of ordinary numbers that the network does not refuse.
    for row in rows:
        with suppress(ProofError):
            if row.is_plain:
                call(network, row.values, int(contract.batched), contract, places)
                yield row


def call(
    network: nn.Module, arguments: Sequence[Value], batch: int, contract: Contract, places: Sequence[int]
) -> tuple[Value, ...]:
    """Call a network, and return its outputs in config.pbtxt's order; ProofError if it fails or returns too few."""
    try:
        outputs = torchscript.outputs(network, *arguments)
    except Exception as error:  # Whatever a network's Python raises.
        shapes = ", ".join(map(describe, arguments))
        message = f"{contract.model} fails on config.pbtxt's input {shapes} (batch {batch}): {last_line(error)}"
        raise ProofError(message) from error
    if len(outputs) <= max(places):
        wanted = ", ".join(f"{spec.name} at {place}" for spec, place in zip(contract.outputs, places, strict=True))
        raise ProofError(f"{contract.model} returns {len(outputs)} outputs, config.pbtxt has {wanted}, counted from 0")
    return tuple(outputs[place] for place in places)


def batch_sizes(largest: int) -> list[int]:
    """List the batch sizes to try: a few small ones and the largest, or 0 for a model without batching."""
    return sorted({size for size in _BATCH_SIZES if size <= largest} | {largest})


def prove_labels(model: str, classifier: str, repository: Path = REPOSITORY) -> None:
    """Raise ProofError unless a pipeline's labels.txt, if it has one, equals its classifier's."""
    own, original = (repository / name / "labels.txt" for name in (model, classifier))
    if own.is_file() and own.read_text() != original.read_text():
        raise ProofError(f"{own} differs from {original}; copy that file")


def prove_budget(model: str, parent: str, accuracy: float, parent_accuracy: float, budget: float) -> None:
    """Raise ProofError if a variant loses more of its parent's test accuracy than its recipe's budget allows."""
    if accuracy < parent_accuracy - budget:
        raise ProofError(
            f"{model}: test accuracy {accuracy:.2%} is {parent_accuracy - accuracy:.2%} below {parent}'s "
            f"{parent_accuracy:.2%}; the recipe's budget is {budget:.2%}"
        )
