"""The plan of a new model: its network tried out, and from that its contract, its files and its first version."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torch import nn

from clients.contract import TensorSpec
from tools.check import rules
from tools.contract import torch_dtype
from tools.export import conversion, imported_network, publication, torchvision_models
from tools.export.agreement import BATCH_TOLERANCE, ProofError
from tools.export.publication import Manifest
from tools.export.torchvision_models import Preset
from tools.new import example_inputs, notes, scaffold
from tools.new.options import OptionError, Options
from tools.new.scaffold import LABELS, Design
from tools.new.trial import Observed, observe
from tools.recipes import Imported
from tools.repository import config_path
from tools.train.training import cpu_threads

# Batches of inputs larger than this fill memory and add latency before they add throughput.
_LARGE_INPUT = 64 * 1024
_DEFAULT_BATCH, _DEFAULT_BATCH_LARGE = 64, 8


@dataclass(frozen=True)
class Plan:
    """Everything that is to be written.

    Attributes:
        network: the one that was tried; publishing builds it again from the recipe, as later exports will.
        labels: names of the classes; empty for none.
        notes: what the model's owner should know.
    """

    network: nn.Module
    recipe: Imported
    design: Design
    labels: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def recipe_text(self) -> str:
        """The recipe as a file."""
        return scaffold.recipe(self.design.model, self.design.title, self.recipe)


def make_plan(options: Options, recipe: Imported) -> Plan:
    """Try the network and decide on its contract.

    Raises:
        RecipeError, OptionError, ProofError: it cannot be loaded, called or served as the options say.
    """
    preset = Preset(None)
    if recipe.torchvision:
        preset = torchvision_models.preset(recipe.torchvision, recipe.weights)
    network = imported_network.load(recipe)
    batched = None if options.max_batch_size is None else options.max_batch_size > 0
    with cpu_threads(1):
        specs = _inputs(options, network, preset)
        observed = observe(network, specs, batched, max(recipe.tolerance, BATCH_TOLERANCE))
    labels = _labels(options, preset)
    design = _design(options, _title(recipe), observed, labels, preset, conversion.is_quantized(network))
    final = replace(recipe, squeezed=observed.squeezed, dims=observed.dims)
    about = (*notes.of_assumptions(options, recipe, design, preset), *observed.notes)
    return Plan(network, final, design, labels, about)


def _design(
    options: Options, title: str, observed: Observed, labels: tuple[str, ...], preset: Preset, cpu_only: bool
) -> Design:
    wanted, is_image = options.max_batch_size, _is_image(observed.inputs)
    return Design(
        model=options.name,
        title=title,
        max_batch_size=_default_batch_size(observed) if wanted is None else wanted,
        inputs=observed.inputs,
        outputs=observed.outputs,
        warmup={spec.name: spec.dims for spec in observed.inputs} | dict(observed.dims[0] if observed.dims else {}),
        why_unbatched=observed.why_unbatched,
        squeezed=observed.squeezed,
        labelled=_labelled_output(observed.outputs, labels, options),
        mean=preset.mean if is_image else (),
        std=preset.std if is_image else (),
        cpu_only=cpu_only,
    )


def _inputs(options: Options, network: nn.Module, preset: Preset) -> tuple[TensorSpec, ...]:
    if options.example_inputs:
        return example_inputs.parse(options.example_inputs, network)
    if preset.dims:
        return example_inputs.parse(f"FP32[{','.join(map(str, preset.dims))}]", network)
    return example_inputs.infer(network)


def _is_image(specs: Sequence[TensorSpec]) -> bool:
    # One input of channels, height and width, all fixed: clients can prepare a picture for it.
    return len(specs) == 1 and len(specs[0].dims) == 3 and -1 not in specs[0].dims


def _default_batch_size(observed: Observed) -> int:
    if not observed.batched:
        return 0
    shapes = dict(observed.dims[-1]) if observed.dims else {}
    row = sum(math.prod(shapes.get(spec.name, spec.dims)) * torch_dtype(spec).itemsize for spec in observed.inputs)
    return _DEFAULT_BATCH_LARGE if row > _LARGE_INPUT else _DEFAULT_BATCH


def _labels(options: Options, preset: Preset) -> tuple[str, ...]:
    if not options.labels:
        return preset.labels
    try:
        return tuple(options.labels.read_text().splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"--labels {options.labels} cannot be read: {error}") from error


def _labelled_output(outputs: Sequence[TensorSpec], labels: tuple[str, ...], options: Options) -> str | None:
    matching = [spec.name for spec in notes.score_outputs(outputs) if spec.dims == (len(labels),)]
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


def check(plan: Plan, repository: Path) -> list[str]:
    """Run `tools.check` on the staged repository; returns its warnings and hints.

    Raises:
        ProofError: it finds an error.
    """
    findings = rules.check(repository)
    if errors := [finding.message for finding in findings if finding.severity == "error"]:
        raise ProofError(f"tools.check finds: {'; '.join(errors)}")
    return [f"tools.check: {finding.rule}: {finding.message}" for finding in findings]
