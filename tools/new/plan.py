"""The plan of a new model: its network tried out, and from that its contract, its files and its first version."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torch import nn

from clients.contract import TensorSpec
from tools.check import rules
from tools.contract import torch_dtype
from tools.export import conversion, imported_network, publication, torchvision_models
from tools.export.agreement import BATCH_TOLERANCE, ProofError
from tools.export.publication import Evidence, Manifest
from tools.export.torchvision_models import Preset
from tools.new import example_inputs, scaffold
from tools.new.options import OptionError, Options
from tools.new.scaffold import LABELS, Design
from tools.new.trial import Observed, observe
from tools.recipes import Imported
from tools.repository import config_path
from tools.train.training import cpu_threads


@dataclass(frozen=True)
class Plan:
    """Everything that is to be written."""

    network: nn.Module  # The one that was tried; publishing builds it again from the recipe, as later exports will.
    recipe: Imported
    design: Design
    labels: tuple[str, ...]  # Names of the classes; empty for none.
    notes: tuple[str, ...]  # What the model's owner should know.

    @property
    def recipe_text(self) -> str:
        """The recipe as a file."""
        return scaffold.recipe(self.design.model, self.design.title, self.recipe)


def make_plan(options: Options, recipe: Imported) -> Plan:
    """Try the network and decide on its contract.

    Raises:
        RecipeError, OptionError, ProofError: it cannot be loaded, called or served as the options say.
    """
    preset = torchvision_models.preset(recipe.torchvision, recipe.weights) if recipe.torchvision else Preset(None)
    network, wanted = imported_network.load(recipe), options.max_batch_size
    with cpu_threads(1):
        if options.example_inputs or preset.dims:
            image = f"FP32[{','.join(map(str, preset.dims or ()))}]"
            specs = example_inputs.parse(options.example_inputs or image, network)
        else:
            specs = example_inputs.infer(network)
        batched = None if wanted is None else wanted > 0
        observed = observe(network, specs, batched, max(recipe.tolerance, BATCH_TOLERANCE))
    labels = _labels(options, preset)
    # One input of channels, height and width, all fixed: clients can prepare a picture for it.
    inputs = observed.inputs
    is_image = len(inputs) == 1 and len(inputs[0].dims) == 3 and -1 not in inputs[0].dims
    design = Design(
        model=options.name,
        title=_title(recipe),
        max_batch_size=_default_batch_size(observed) if wanted is None else wanted,
        inputs=inputs,
        outputs=observed.outputs,
        warmup={spec.name: spec.dims for spec in inputs} | dict(observed.dims[0] if observed.dims else {}),
        why_unbatched=observed.why_unbatched,
        squeezed=observed.squeezed,
        labelled=_labelled_output(observed.outputs, labels, options),
        mean=preset.mean if is_image else (),
        std=preset.std if is_image else (),
        cpu_only=conversion.is_quantized(network),
    )
    final = replace(recipe, squeezed=observed.squeezed, dims=observed.dims)
    return Plan(network, final, design, labels, (*_assumptions(options, recipe, design, preset), *observed.notes))


def _default_batch_size(observed: Observed) -> int:
    if not observed.batched:
        return 0
    shapes = dict(observed.dims[-1]) if observed.dims else {}
    row = sum(math.prod(shapes.get(spec.name, spec.dims)) * torch_dtype(spec).itemsize for spec in observed.inputs)
    # Batches of larger inputs fill memory and add latency before they add throughput.
    return 8 if row > 64 * 1024 else 64


def _labels(options: Options, preset: Preset) -> tuple[str, ...]:
    if not options.labels:
        return preset.labels
    try:
        return tuple(options.labels.read_text().splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"--labels {options.labels} cannot be read: {error}") from error


def _score_outputs(outputs: Sequence[TensorSpec]) -> list[TensorSpec]:
    # Those that may hold a score for each class.
    floats = ("FP32", "FP16", "FP64")
    return [spec for spec in outputs if spec.datatype in floats and len(spec.dims) == 1 and spec.dims[0] > 1]


def _labelled_output(outputs: Sequence[TensorSpec], labels: tuple[str, ...], options: Options) -> str | None:
    matching = [spec.name for spec in _score_outputs(outputs) if spec.dims == (len(labels),)]
    if options.labels and not matching:
        listed = ", ".join(f"{spec.name} {list(spec.dims)}" for spec in outputs)
        raise OptionError(
            f"--labels {options.labels} has {len(labels)} lines, but no floating-point output has as many scores; "
            f"outputs: {listed}"
        )
    return matching[0] if matching else None


def _title(recipe: Imported) -> str:
    if recipe.torchvision:
        return f"torchvision's {recipe.torchvision}{f' with weights {recipe.weights}' if recipe.weights else ''}"
    if recipe.torchscript:
        return f"the TorchScript file {recipe.torchscript}"
    file, _, name = (recipe.module or "").rpartition(":")
    return f"{name} of {file}"


def _assumptions(options: Options, recipe: Imported, design: Design, preset: Preset) -> Iterator[str]:
    # What was assumed, and which option changes it.
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
    if not design.labelled and (scores := _score_outputs(design.outputs[:1])):
        yield f"no labels: if {scores[0].name} holds scores of classes, name them with --labels FILE"
    if design.cpu_only:
        yield "it computes in int8, which exists only for the CPU: its instances are KIND_CPU"


def conversion_notes(evidence: Evidence) -> list[str]:
    """Note which methods of conversion failed, and what tracing fixed."""
    failed = [f"not {method}: {reason}" for method, reason in (evidence.passed_over or {}).items()]
    return failed + [f"tracing fixed what an example decided: {place}" for place in evidence.fixed or ()]


def write_files(plan: Plan, repository: Path) -> None:
    """Write config.pbtxt and labels.txt into a staged repository."""
    folder = repository / plan.design.model
    folder.mkdir()
    config_path(plan.design.model, repository=repository).write_text(scaffold.config(plan.design))
    if plan.design.labelled:
        (folder / LABELS).write_text("".join(f"{name}\n" for name in plan.labels))


def publish(plan: Plan, repository: Path) -> Manifest:
    """Export and prove the first version in a staged repository.

    Raises:
        RecipeError, RepositoryError, ProofError: it must not be served.
    """
    fill = partial(conversion.fill_imported, plan.design.model, plan.recipe, repository)
    with cpu_threads(1):
        return publication.publish(plan.design.model, fill, repository)


def check(repository: Path) -> list[str]:
    """Run `tools.check` on a staged repository; return its warnings and hints, or raise ProofError for an error."""
    findings = rules.check(repository)
    if errors := [finding.message for finding in findings if finding.severity == "error"]:
        raise ProofError(f"tools.check finds: {'; '.join(errors)}")
    return [f"tools.check: {finding.rule}: {finding.message}" for finding in findings]
