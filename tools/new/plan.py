"""The plan of a new model: its network tried out, and from that its contract, its files and its first version."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from clients.contract import TensorSpec
from tools.check import rules
from tools.contract import torch_dtype
from tools.export import conversion, example_files, imported_network, publication, torchvision_models
from tools.export.agreement import BATCH_TOLERANCE, ProofError
from tools.export.example_files import samples_of
from tools.export.publication import Evidence, Manifest
from tools.export.samples import Samples
from tools.export.torchvision_models import Preset
from tools.new import coverage, example_inputs, scaffold, transformers_inputs
from tools.new.example_inputs import Wanted
from tools.new.options import OptionError, Options
from tools.new.scaffold import LABELS, Design
from tools.new.trial import Effort, Observed, observe
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
    warmup: Mapping[str, bytes] = field(default_factory=dict)  # A row of each input that must not be zeros.

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
        inputs = _inputs(options, recipe, preset, network)
        samples = samples_of(replace(recipe, ranges=inputs.ranges), inputs.specs)
        effort = Effort(samples, tuple(options.sizes), max(recipe.tolerance, BATCH_TOLERANCE))
        observed = observe(network, inputs.specs, None if wanted is None else wanted > 0, effort)
    labels = _labels(options, preset)
    # One input of channels, height and width, all fixed: clients can prepare a picture for it.
    specs, warmup = observed.inputs, _warmup(samples, observed)
    is_image = len(specs) == 1 and len(specs[0].dims) == 3 and -1 not in specs[0].dims
    design = Design(
        model=options.name,
        title=_title(recipe),
        max_batch_size=_default_batch_size(observed) if wanted is None else wanted,
        inputs=specs,
        outputs=observed.outputs,
        warmup={spec.name: spec.dims for spec in specs} | dict(observed.dims[0] if observed.dims else {}),
        warmup_files=tuple(warmup),
        proven=coverage.proven(specs, samples, observed),
        why_unbatched=observed.why_unbatched,
        squeezed=observed.squeezed,
        labelled=_labelled_output(observed.outputs, labels, options),
        mean=preset.mean if is_image else (),
        std=preset.std if is_image else (),
        cpu_only=conversion.is_quantized(network),
    )
    final = replace(recipe, squeezed=observed.squeezed, dims=observed.dims, ranges=inputs.ranges)
    notes = (*_assumptions(options, recipe, design, preset), *coverage.notes(specs, samples, observed), *observed.notes)
    return Plan(network, final, design, labels, notes, warmup)


def _warmup(samples: Samples, observed: Observed) -> dict[str, bytes]:
    # A row of the inputs that zeros may not be: those with examples, or whose range has no zero.
    shapes = dict(observed.dims[0]) if observed.dims else {}
    specs = [replace(spec, dims=shapes.get(spec.name, spec.dims)) for spec in observed.inputs]
    rows = zip(specs, samples.draw(specs, 0), strict=True)
    return {
        spec.name: row.numpy().tobytes()
        for spec, row in rows
        if isinstance(row, Tensor) and not samples.takes_zeros(spec.name)
    }


def _inputs(options: Options, recipe: Imported, preset: Preset, network: nn.Module) -> Wanted:
    if options.example_inputs:
        return example_inputs.parse(options.example_inputs, network)
    if recipe.examples:
        return example_inputs.named(example_files.infer(recipe.examples), network)
    if preset.dims:
        return example_inputs.parse(f"FP32[{','.join(map(str, preset.dims))}]", network)
    names = [parameter.name for parameter in example_inputs.parameters_of(network)]
    return transformers_inputs.infer(network, names) or example_inputs.infer(network)


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
        reason = getattr(error, "strerror", None) or error
        raise OptionError(
            f"--labels {options.labels} cannot be read: {reason}; expected a class name per line"
        ) from error


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
    if not (options.example_inputs or recipe.examples):
        source = "as the network takes it"
        if preset.dims:
            source = "as torchvision's weights take it"
        inputs = ", ".join(f"{spec.name} {spec.datatype} {list(spec.dims)}" for spec in design.inputs)
        yield f"input {inputs}, {source}; change it with --example-inputs"
    if not design.max_batch_size:
        reason = f": {design.why_unbatched}" if design.why_unbatched else ""
        yield f"served without batches (max_batch_size 0){reason}"
    elif options.max_batch_size is None:
        yield f"batches of up to {design.max_batch_size}; change it with --max-batch-size"
    if not design.labelled and (scores := _score_outputs(design.outputs[:1])):
        yield f"no labels: if {scores[0].name} holds scores of classes, name them with --labels FILE"
    if options.recipe_path is None:
        yield "no recipe: tools.export cannot publish it again, nor tools.verify prove it; give --recipes DIR"
    if design.cpu_only:
        yield "it computes in int8, which exists only for the CPU: its instances are KIND_CPU"


def conversion_notes(evidence: Evidence) -> list[str]:
    """Note which methods of conversion failed, what tracing fixed, and which tensors lie elsewhere than in Python."""
    notes = [f"not {method}: {reason}" for method, reason in (evidence.passed_over or {}).items()]
    notes += [f"tracing fixed what an example decided: {place}" for place in evidence.fixed or ()]
    if moved := evidence.moved:
        more = f" and {len(moved) - 3} more" if len(moved) > 3 else ""
        notes.append(
            f"in the served file, tensors of these lines follow the input's device: {', '.join(moved[:3])}{more}"
        )
    return notes


def write_files(plan: Plan, repository: Path) -> None:
    """Write config.pbtxt and labels.txt into a staged repository."""
    folder = repository / plan.design.model
    folder.mkdir()
    config_path(plan.design.model, repository=repository).write_text(scaffold.config(plan.design))
    for name, row in plan.warmup.items():
        (folder / "warmup").mkdir(exist_ok=True)
        (folder / "warmup" / name).write_bytes(row)
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
