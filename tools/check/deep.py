"""`--deep`: load TorchScript files with torch and call them on the CPU at several batch sizes.

A traced graph can hard-code the batch size that it was traced with. Nothing in the file says so, and Triton notices
only when the first real batch arrives.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clients.contract import Contract, TensorSpec
from tools.check.finding import Finding, Place, Rule
from tools.check.layout import file_name
from tools.check.served import FILES, Model

FAILS = Rule("torchscript-fails", "The output of a TorchScript file does not match its config (--deep)", level="error")
BATCH = Rule(
    "torchscript-batch",
    "A TorchScript file works for one row and fails on batches: its graph hard-codes a size (--deep)",
    level="error",
)
RULES = (FAILS, BATCH)


def check(model: Model) -> Iterator[Finding]:
    """Call the newest version of a model of the pytorch backend whose config is valid."""
    if model.config.backend != "pytorch" or model.config.platform != FILES["pytorch"][1] or not model.wanted:
        return
    file = model.folder / str(model.wanted[-1]) / file_name(model)
    if file.is_file():
        yield from _check_calls(model, file)


def _check_calls(model: Model, file: Path) -> Iterator[Finding]:
    from tools import torchscript
    from tools.contract import read_contract
    from tools.export import proof

    contract = read_contract(model.name, model.folder.parent)
    module = torchscript.load(file)
    try:
        inputs, outputs = proof.prove_signature(module, model.name, model.folder.parent)
    except proof.ProofError:
        return  # Reported without --deep.
    specs = _sized_inputs(model, contract.inputs)
    if inputs.as_dict or inputs.strings or set(inputs.names) - set(specs):
        return  # No random dictionaries, strings, control tensors or unknown sizes.
    ordered, places = [specs[name] for name in inputs.names], [output.index for output in outputs]
    for batch in proof.batch_sizes(contract):
        try:
            _call(module, contract, ordered, places, batch)
        except proof.ProofError as error:
            rule, remedy = FAILS, "correct the config or the model"
            if batch > 1:
                rule, remedy = BATCH, "trace it with a variable batch dimension, or script it"
            yield rule.at(Place(file), found=str(error), expected="outputs that match the config", remedy=remedy)
            return


def _sized_inputs(model: Model, inputs: Sequence[TensorSpec]) -> dict[str, TensorSpec]:
    """Inputs of known size by name; a warm-up sample gives the sizes that the config leaves variable."""
    known = {spec.name: spec for spec in inputs if -1 not in spec.dims}
    for sample in model.config.model_warmup:
        for spec in inputs:
            if spec.name in sample.inputs:
                known.setdefault(spec.name, replace(spec, dims=tuple(sample.inputs[spec.name].dims)))
    return known


def _call(module: Any, contract: Contract, inputs: Sequence[TensorSpec], places: Sequence[int], batch: int) -> None:
    """Call a module with random inputs; raise ProofError if it fails or its outputs do not match the config."""
    from torch import Generator

    from tools.contract import example
    from tools.export import proof
    from tools.export.agreement import check_output

    arguments = [example(spec, batch, Generator().manual_seed(batch)) for spec in inputs]
    outputs = proof.call(module, arguments, batch, contract, places)
    for spec, tensor in zip(contract.outputs, outputs, strict=True):
        check_output(spec, tensor, batch)
