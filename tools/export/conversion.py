"""From an imported network to a proven TorchScript file: scripted, or traced if scripting gives no faithful file.

`tools.export` uses it for recipes of the kind `Imported`; `tools.new` uses it for a first version and its first call.
"""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from tools import torchscript
from tools.backends.pytorch import binding
from tools.contract import Value, read_contract
from tools.export import golden, imported_network, proof
from tools.export.adapter import Adapter, call_for, forward_source, is_servable
from tools.export.advice import advice
from tools.export.agreement import ProofError, last_line
from tools.export.example_files import samples_of
from tools.export.pipelines import array_function
from tools.export.publication import Evidence
from tools.export.samples import Samples
from tools.model_files import BUILT_IN
from tools.recipes import Imported
from tools.repository import MODEL_FILE, as_triton_json, read_config


@dataclass(frozen=True)
class ImportedModel:
    """An imported network together with its config.pbtxt."""

    network: nn.Module
    model: str
    recipe: Imported
    repository: Path

    @cached_property
    def samples(self) -> Samples:
        """What it is tried with."""
        return samples_of(self.recipe, read_contract(self.model, self.repository).inputs)

    @cached_property
    def adapter(self) -> Adapter:
        """The network, adapted to the inputs in config.pbtxt."""
        contract = read_contract(self.model, self.repository)
        call = call_for(self.network, [spec.name for spec in contract.inputs], self.recipe.squeezed)
        return Adapter(self.network, call, contract.batched)

    @cached_property
    def input_names(self) -> tuple[str, ...]:
        """The inputs in config.pbtxt, in the order of the served file's arguments."""
        names = [spec.name for spec in read_contract(self.model, self.repository).inputs]
        with proof.binding_proof(self.model, self.repository):
            return binding.order(names, self.adapter.call.names)

    @cached_property
    def output_places(self) -> dict[str, int]:
        """The outputs in config.pbtxt, and the place of each in the tuple that `forward` returns."""
        config = as_triton_json(read_config(self.model, repository=self.repository))
        with proof.binding_proof(self.model, self.repository):
            return {output.name: output.index for output in binding.bind_outputs(config)}

    @cached_property
    def example(self) -> list[Value]:
        """A random input that config.pbtxt admits, in the order of the served file's arguments."""
        specs = self.samples.shaped(read_contract(self.model, self.repository).inputs)[0]
        # Two rows: with one, what tracing fixes by accident looks right more often.
        return self.samples.draw([specs[name] for name in self.input_names], 2 if self.adapter.batched else 0)


def fill_imported(model: str, recipe: Imported, repository: Path, folder: Path) -> Evidence:
    """Write and prove an imported network; RecipeError if it cannot be loaded, ProofError if no file answers alike."""
    imported = ImportedModel(imported_network.load(recipe), model, recipe, repository)
    # Libraries warn when they are scripted; whatever matters, the proofs notice.
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        evidence = _convert(imported, folder / MODEL_FILE)
    contract, file = read_contract(model, repository), torchscript.load(folder / MODEL_FILE)
    eager = array_function(imported.adapter, file, model, repository)
    golden.write(folder, eager, golden.drawn(contract, imported.samples), recipe.tolerance)
    return replace(
        evidence,
        imported=imported_network.sources(recipe),
        parameters=sum(parameter.numel() for parameter in imported.network.parameters()),
    )


def is_quantized(network: nn.Module) -> bool:
    """Whether a network computes in int8, which only CPUs support."""
    if isinstance(network, torch.jit.ScriptModule):
        return "quantized::" in str(network.inlined_graph)
    return any(".quantized" in type(module).__module__ for module in network.modules())


def _convert(imported: ImportedModel, file: Path) -> Evidence:
    # Writes the first file that answers as the network does.
    failures: dict[str, str] = {}
    for name in ("scripted", "traced"):
        try:
            module, fixed = _make(name, imported.adapter, imported.example)
        except ProofError as error:
            failures.setdefault(str(error), name)
            continue
        # Detectors sort their results: folding changes last digits and with them the order.
        for method, fold in ((name, True), (f"{name}, not folded", False)):
            try:
                difference, moved = _prove(module, fold, imported, file)
            except ProofError as error:
                failures.setdefault(str(error), method)
            else:
                return Evidence(
                    method=method,
                    max_abs_difference=difference,
                    fixed=fixed,
                    moved=moved or None,
                    passed_over={other: reason for reason, other in failures.items()},
                )
    reasons = "; ".join(f"{method}: {reason}" for reason, method in failures.items())
    raise ProofError(
        f"no TorchScript file answers as the network does. {reasons}. Write forward in the subset of Python that "
        "TorchScript supports, and take sizes from tensors: x.flatten(1) instead of a number that Python has computed"
        + ("; if it loops over a dim of -1, give that a number" if imported.recipe.dims else "")
    )


@torch.inference_mode()
def _make(method: str, adapter: Adapter, values: Sequence[Value]) -> tuple[nn.Module, list[str]]:
    # Returns what is written, and the lines of Python at which tracing fixed a decision.
    call = adapter.call
    try:
        if method == "traced":
            recorded, fixed = torchscript.trace(adapter, values)
            typed = ", ".join(f"{name}: Tensor" for name in call.names)
            forward = f"def forward(self, {typed}):\n    return self.network({', '.join(call.names)})\n"
            return torchscript.wrap(recorded, forward), fixed
        returned = adapter.call_network(*values)
        takes_inputs = call.is_complete and not call.as_dict and not call.squeezed
        if takes_inputs and is_servable(returned, adapter.batched):
            return torchscript.script(adapter.network), []
        source = forward_source(call, values, returned, adapter.batched)
        return torchscript.wrap(adapter.network, source), []
    except Exception as error:  # torch raises many kinds, and a user's code any.
        reason = advice(str(error), adapter.network, values) or str(error).strip()
        raise ProofError(f"cannot be written as TorchScript: {reason}") from error


def _prove(module: nn.Module, fold: bool, imported: ImportedModel, file: Path) -> tuple[float, list[str]]:
    # Returns the largest difference from eager, and the lines whose tensors follow the input's device.
    model, recipe, repository = imported.model, imported.recipe, imported.repository
    moved = proof.prove_scriptable(module, file, model, fold)
    try:
        loaded = torchscript.load(file)
    except RuntimeError as error:
        reason = next(iter(str(error).strip().splitlines()), "")
        raise ProofError(f"torch writes a TorchScript file that it cannot load: {reason}") from error
    proof.prove_device(loaded, model, repository)
    used = set(re.findall(r"= (\w+)(::\w+)", str(loaded.inlined_graph)))
    if foreign := sorted(space + name for space, name in used if space not in BUILT_IN):
        raise ProofError(
            f"{model} needs the operator {foreign[0]}, which is not one of torch's own; tritonserver finds it only "
            "with its library in LD_PRELOAD, and the embedded server not at all"
        )
    try:
        with torch.inference_mode():
            returned = loaded(*imported.example)
    except RuntimeError as error:
        raise ProofError(f"{model} fails as TorchScript: {last_line(error)}") from error
    # In TorchScript, None and nested tuples may appear that eager mode leaves out.
    if not is_servable(returned, imported.adapter.batched):
        raise ProofError(f"{model} returns more as TorchScript than in Python (None, or nested tuples)")
    difference = proof.prove_same(imported.adapter, file, model, repository, recipe.tolerance, imported.samples)
    return difference, moved
