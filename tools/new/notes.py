"""Notes for the owner of a new model: what was assumed, what the served file changes, and how it was converted."""

from collections.abc import Iterator, Mapping, Sequence

from clients.contract import TensorSpec
from tools.export.adapter import Adapter, examples, flatten
from tools.export.agreement import describe, distance
from tools.export.publication import Evidence
from tools.export.torchvision_models import Preset
from tools.new.options import Options
from tools.new.scaffold import Design
from tools.recipes import Imported

_SEEDS = 12  # Integers are drawn from 0 and 1 only, so that two draws are often the same.
_SCORE_DATATYPES = ("FP32", "FP16", "FP64")


def of_network(adapter: Adapter, specs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Iterator[str]:
    """Note how the served file's outputs differ from the network's, and outputs that never change."""
    returned = adapter.call_network(*examples(specs, int(adapter.batched)))
    names = ", ".join(spec.name for spec in outputs)
    if isinstance(returned, Mapping):
        yield f"forward returns a dict; the served file returns a tuple of its values, sorted by key: {names}"
    elif hasattr(returned, "_fields"):
        yield f"forward returns a {type(returned).__name__}; the served file returns a tuple of its fields: {names}"
    for place in _constant_outputs(adapter, specs):
        yield f"{outputs[place].name} is the same for every input; with such weights the proofs show little about it"
    for output, spec in zip(flatten(returned), outputs, strict=True):
        if not isinstance(output.value, list) and output.value.ndim <= adapter.batched:
            yield f"{spec.name} has no dimension besides the batch; Triton needs one, so it is served as [1]"


def _constant_outputs(adapter: Adapter, specs: Sequence[TensorSpec]) -> list[int]:
    first = adapter.answer(examples(specs, int(adapter.batched)))
    constant = list(range(len(first)))
    for seed in range(1, _SEEDS):
        if not constant:
            break
        row = adapter.answer(examples(specs, int(adapter.batched), seed))
        constant = [at for at in constant if describe(row[at]) == describe(first[at])]
        constant = [at for at in constant if distance(row[at], first[at]) == 0]
    return constant


def of_assumptions(options: Options, recipe: Imported, design: Design, preset: Preset) -> Iterator[str]:
    """Note what was assumed, and which option changes it."""
    if not (recipe.torchscript or recipe.checkpoint or recipe.weights):
        flags = "--checkpoint FILE or --weights DEFAULT" if recipe.torchvision else "--checkpoint FILE"
        yield f"no weights were given: it has its constructor's, random with a fixed seed; give {flags}"
    if not options.example_inputs:
        source = "as torchvision's weights take it" if preset.dims else "as the first layer takes it"
        inputs = ", ".join(f"{spec.name} {spec.datatype} {list(spec.dims)}" for spec in design.inputs)
        yield f"input {inputs}, {source}; change it with --example-inputs"
    if not design.max_batch_size:
        reason = f": {design.why_unbatched}" if design.why_unbatched else ""
        yield f"served without batches (max_batch_size 0){reason}"
    elif options.max_batch_size is None:
        yield f"batches of up to {design.max_batch_size}; change it with --max-batch-size"
    if not design.labelled and (scores := score_outputs(design.outputs[:1])):
        yield f"no labels: if {scores[0].name} holds scores of classes, name them with --labels FILE"
    if design.cpu_only:
        yield "it computes in int8, which exists only for the CPU: its instances are KIND_CPU"


def score_outputs(outputs: Sequence[TensorSpec]) -> list[TensorSpec]:
    """List the outputs that may hold a score for each class."""
    return [spec for spec in outputs if spec.datatype in _SCORE_DATATYPES and len(spec.dims) == 1 and spec.dims[0] > 1]


def of_conversion(evidence: Evidence) -> Iterator[str]:
    """Note which methods of conversion failed, and what tracing fixed."""
    for method, reason in (evidence.passed_over or {}).items():
        yield f"not {method}: {reason}"
    for place in evidence.fixed or ():
        yield f"tracing fixed what an example decided: {place}"
