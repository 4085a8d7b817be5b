"""`--deep`: TorchScript files are loaded with torch and called, on the CPU, at several batch sizes.

A traced graph can hold the batch size that it was traced with; nothing in its file says so, and Triton notices when the
first real batch arrives.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clients.contract import Contract, TensorSpec
from tools.check.finding import Finding, Place, Rule
from tools.check.layout import file_name
from tools.check.served import FILES, Model

FAILS = Rule("torchscript-fails", "A TorchScript file does not answer as its config says (--deep)", level="error")
BATCH = Rule(
    "torchscript-batch",
    "A TorchScript file answers one row, and fails on batches: a size is baked into its graph (--deep)",
    level="error",
)
RULES = (FAILS, BATCH)
BAKED = "trace it with a batch dimension that varies, or script it"


def check(model: Model) -> Iterator[Finding]:
    """Call the newest version of a model of the pytorch backend whose config is sound."""
    if model.config.backend != "pytorch" or model.config.platform != FILES["pytorch"][1] or not model.wanted:
        return
    file = model.folder / str(model.wanted[-1]) / file_name(model)
    if file.is_file():
        yield from check_calls(model, file)


def check_calls(model: Model, file: Path) -> Iterator[Finding]:
    """Call a file at each batch size until one fails."""
    from tools import torchscript
    from tools.contract import read_contract
    from tools.export import proof

    contract = read_contract(model.name, model.folder.parent)
    module = torchscript.load(file)
    try:
        inputs, outputs = proof.prove_signature(module, model.name, model.folder.parent)
    except proof.ProofError:
        return  # What does not bind is said without --deep.
    specs = sized(model, contract.inputs)
    if inputs.as_dict or inputs.strings or set(inputs.names) - set(specs):
        return  # Dictionaries, texts, control tensors and unknown sizes are not made up here.
    ordered, places = [specs[name] for name in inputs.names], [output.index for output in outputs]
    for batch in proof.batch_sizes(contract):
        try:
            call(module, contract, ordered, places, batch)
        except proof.ProofError as error:
            rule, remedy = (BATCH, BAKED) if batch > 1 else (FAILS, "correct one of the two")
            yield rule.at(Place(file), found=str(error), expected="an answer as the config says", remedy=remedy)
            return


def sized(model: Model, inputs: Sequence[TensorSpec]) -> dict[str, TensorSpec]:
    """Inputs by name, with the sizes of a warm-up sample where the config leaves them open; without those unknown."""
    known = {spec.name: spec for spec in inputs if -1 not in spec.dims}
    for sample in model.config.model_warmup:
        for spec in inputs:
            if spec.name in sample.inputs:
                known.setdefault(spec.name, replace(spec, dims=tuple(sample.inputs[spec.name].dims)))
    return known


def call(module: Any, contract: Contract, inputs: Sequence[TensorSpec], places: Sequence[int], batch: int) -> None:
    """One call with random inputs, whose answers are as the config says.

    Raises:
        ProofError: they are not, or there are none.
    """
    from torch import Generator

    from tools.contract import example
    from tools.export import proof
    from tools.export.agreement import check_output

    arguments = [example(spec, batch, Generator().manual_seed(batch)) for spec in inputs]
    found = proof.call(module, arguments, batch, contract, places)
    for spec, tensor in zip(contract.outputs, found, strict=True):
        check_output(spec, tensor, batch)
