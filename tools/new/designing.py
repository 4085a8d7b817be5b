"""What `tools.new` does with torch: a design that was tried, its files, a proven version, and a first call."""

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from clients.contract import TensorSpec
from tools.check import rules
from tools.contract import torch_dtype
from tools.export import imported, origin, publication, torchvision_models
from tools.export.agreement import BATCH_TOLERANCE, ProofError
from tools.export.torchvision_models import Published
from tools.new import example_inputs, first_call, scaffold
from tools.new.example_inputs import ExampleError
from tools.new.scaffold import LABELS, Design
from tools.new.trial import Observed, observe
from tools.recipes import Imported, RecipeError
from tools.repository import config_path
from tools.train.training import cpu_threads

# Reasons why a network is not served, beside those of tools.recipes.
REFUSALS = (ProofError, ExampleError)
# Batches of inputs that are larger than this fill memory, and cost latency, before they gain throughput.
LARGE_INPUT = 64 * 1024
MANY, FEW = 64, 8


@dataclass(frozen=True)
class Plan:
    """All that is to be written.

    Attributes:
        network: what was tried; publishing makes it once more from the recipe, as others will.
        labels: names of the classes; empty for none.
        notes: what a person should know about it.
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


def plan(arguments: argparse.Namespace, recipe: Imported) -> Plan:
    """Try the network and decide on its contract.

    Raises:
        RecipeError, ExampleError, ProofError: it cannot be had, called or served as the flags say.
    """
    known = torchvision_models.published(recipe.torchvision, recipe.weights) if recipe.torchvision else Published(None)
    network = origin.network(recipe)
    wanted = arguments.max_batch_size
    with cpu_threads(1):
        batched = None if wanted is None else wanted > 0
        given = inputs(arguments, network, known)
        seen = observe(network, given, batched, max(recipe.tolerance, BATCH_TOLERANCE))
    names = labels(arguments, known)
    labelled = scored(seen.outputs, names, arguments)
    images = known if takes_images(seen.inputs) else Published(None)
    design = Design(
        model=arguments.name,
        title=title(recipe),
        max_batch_size=largest_batch(seen) if wanted is None else wanted,
        inputs=seen.inputs,
        outputs=seen.outputs,
        warmup={spec.name: spec.dims for spec in seen.inputs} | dict(seen.dims[0] if seen.dims else {}),
        why_unbatched=seen.why_unbatched,
        squeezed=seen.squeezed,
        labelled=labelled,
        mean=images.mean,
        std=images.std,
        cpu_only=imported.is_quantized(network),
    )
    made = replace(recipe, squeezed=seen.squeezed, dims=seen.dims)
    return Plan(network, made, design, names, (*notes(arguments, recipe, design, known), *seen.notes))


def inputs(arguments: argparse.Namespace, network: nn.Module, known: Published) -> tuple[TensorSpec, ...]:
    """What the network takes: as the flag says it, as its published weights do, or as the network shows."""
    if arguments.example_inputs:
        return example_inputs.parse(arguments.example_inputs, network)
    if known.dims:
        return example_inputs.parse(f"FP32[{','.join(map(str, known.dims))}]", network)
    return example_inputs.inferred(network)


def takes_images(specs: Sequence[TensorSpec]) -> bool:
    """Whether clients can prepare a picture for the only input: channels, height and width, all of them fixed."""
    return len(specs) == 1 and len(specs[0].dims) == 3 and -1 not in specs[0].dims


def largest_batch(seen: Observed) -> int:
    """The default of --max-batch-size."""
    if not seen.batched:
        return 0
    shapes = dict(seen.dims[-1]) if seen.dims else {}
    row = sum(math.prod(shapes.get(spec.name, spec.dims)) * torch_dtype(spec).itemsize for spec in seen.inputs)
    return FEW if row > LARGE_INPUT else MANY


def labels(arguments: argparse.Namespace, known: Published) -> tuple[str, ...]:
    """Names of the classes, from the flag or from the weights.

    Raises:
        RecipeError: the file cannot be read.
    """
    if not arguments.labels:
        return known.labels
    try:
        return tuple(arguments.labels.read_text().splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"--labels {arguments.labels} cannot be read: {error}") from error


def scored(outputs: Sequence[TensorSpec], names: tuple[str, ...], arguments: argparse.Namespace) -> str | None:
    """The output that holds a score for each class; None where there are no labels for it.

    Raises:
        RecipeError: labels are given that belong to no output.
    """
    candidates = classifying(outputs)
    fitting = [spec.name for spec in candidates if spec.dims == (len(names),)]
    if arguments.labels and not fitting:
        found = ", ".join(f"{spec.name} {list(spec.dims)}" for spec in outputs)
        raise RecipeError(
            f"--labels {arguments.labels} has {len(names)} lines, but no output of FP32 has so many scores; "
            f"outputs: {found}"
        )
    return fitting[0] if fitting else None


def classifying(outputs: Sequence[TensorSpec]) -> list[TensorSpec]:
    """Outputs that may be scores of classes."""
    floating = ("FP32", "FP16", "FP64")
    return [spec for spec in outputs if spec.datatype in floating and len(spec.dims) == 1 and spec.dims[0] > 1]


def title(recipe: Imported) -> str:
    """What a model is, in a few words."""
    if recipe.torchvision:
        return f"torchvision's {recipe.torchvision}{f' with weights {recipe.weights}' if recipe.weights else ''}"
    if recipe.torchscript:
        return f"the TorchScript file {recipe.torchscript}"
    file, _, name = (recipe.module or "").rpartition(":")
    return f"{name} of {file}"


def notes(arguments: argparse.Namespace, recipe: Imported, design: Design, known: Published) -> Iterator[str]:
    """What was assumed, and which flag says it."""
    if not (recipe.torchscript or recipe.checkpoint or recipe.weights):
        flags = "--checkpoint FILE or --weights DEFAULT" if recipe.torchvision else "--checkpoint FILE"
        yield f"no weights were given: it begins with those of its constructor, random with a fixed seed; give {flags}"
    if not arguments.example_inputs:
        source = "as torchvision's weights take it" if known.dims else "as the first layer takes it"
        taken = ", ".join(f"{spec.name} {spec.datatype} {list(spec.dims)}" for spec in design.inputs)
        yield f"input {taken}, {source}; --example-inputs says it otherwise"
    if not design.max_batch_size:
        reason = f": {design.why_unbatched}" if design.why_unbatched else ""
        yield f"served without batches (max_batch_size 0){reason}"
    elif arguments.max_batch_size is None:
        yield f"batches of up to {design.max_batch_size}; --max-batch-size says it otherwise"
    if not design.labelled and classifying(design.outputs[:1]):
        first = classifying(design.outputs)[0].name
        yield f"no labels: if {first} holds scores of classes, name them with --labels FILE"
    if design.cpu_only:
        yield "it computes in int8, which exists for the CPU only: its instances are KIND_CPU"


def write(plan: Plan, repository: Path) -> None:
    """Write config.pbtxt and labels.txt into a staged repository."""
    folder = repository / plan.design.model
    folder.mkdir()
    config_path(plan.design.model, repository=repository).write_text(scaffold.config(plan.design))
    if plan.design.labelled:
        (folder / LABELS).write_text("".join(f"{name}\n" for name in plan.labels))


def publish(plan: Plan, repository: Path) -> dict[str, Any]:
    """Export and prove the first version in a staged repository; its manifest.

    Raises:
        RecipeError, RepositoryError, ProofError: it must not be served.
    """
    fill = partial(imported.fill, plan.design.model, plan.recipe, repository)
    with cpu_threads(1):
        return publication.publish(plan.design.model, fill, repository)


def check(plan: Plan, repository: Path) -> list[str]:
    """What `tools.check` finds about the staged repository; warnings and hints as texts.

    Raises:
        RecipeError: there is an error among them.
    """
    found = rules.check(repository)
    if errors := [finding.message for finding in found if finding.severity == "error"]:
        raise RecipeError(f"{plan.design.model}: tools.check finds: {'; '.join(errors)}")
    return [f"tools.check: {finding.rule}: {finding.message}" for finding in found]


def call_once(plan: Plan, repository: Path, arguments: argparse.Namespace) -> float:
    """Serve the staged repository and call the model; how far its answer is from the network's.

    Raises:
        ProofError: it does not load, or answers otherwise.
    """
    model, timeout = plan.design.model, arguments.ready_timeout
    return first_call.serve_and_call(model, plan.network, plan.recipe, repository, arguments.hardware, timeout)
