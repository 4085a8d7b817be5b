"""Ensembles and the models in them: that they exist, load, and fit together in names, types, shapes and batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tools.check import decoupled
from tools.check.ensembles import WHOLE
from tools.check.finding import Finding, Fix, Place, Rule
from tools.check.served import Model, Served
from tools.check.tensors import type_name

MISSING = Rule(
    "step-model-missing", "A step's model is not in the repository", "core", WHOLE.replace("member", "membre")
)
BROKEN = Rule("step-model-broken", "A step's model is refused itself", "core")
VERSION = Rule(
    "step-version",
    "A step asks for a version that is not loaded",
    "core",
    WHOLE.replace("model_version: -1", "model_version: 7"),
)
CIRCLE = Rule(
    "ensemble-circle",
    "Ensembles contain each other (loading one that contains such ensembles ends the whole server)",
    "core",
    WHOLE.replace("member", "model"),
)
BATCH = Rule(
    "ensemble-batch-size",
    "An ensemble allows larger batches than a model in it",
    "core",
    WHOLE.replace("max_batch_size: 8", "max_batch_size: 9"),
)
NO_TENSOR = Rule(
    "step-tensor-missing",
    "A step maps an input or output that its model does not have",
    "core",
    WHOLE.replace('"Y"', '"Z"'),
)
UNMAPPED = Rule(
    "step-input-unmapped",
    "A step leaves an input of its model without a tensor",
    "core",
    WHOLE.replace('"member"', '"two_inputs"'),
)
TYPE = Rule(
    "ensemble-type",
    "A tensor has different data types in an ensemble and in a model of it",
    "core",
    WHOLE.replace("TYPE_FP32", "TYPE_FP16", 1),
)
SHAPE = Rule(
    "ensemble-shape",
    "A tensor has shapes that cannot be the same in an ensemble and in a model of it",
    "core",
    WHOLE.replace("dims: [ 4 ]", "dims: [ 5 ]", 1),
)
OUTPUT_TWICE = Rule(
    "step-output-twice", "A step maps an output of which its model has two", "core", WHOLE.replace("member", "twin")
)
RULES = (MISSING, BROKEN, VERSION, CIRCLE, BATCH, NO_TENSOR, UNMAPPED, TYPE, SHAPE, OUTPUT_TWICE)


@dataclass(frozen=True)
class Tensor:
    """What a tensor of an ensemble is, as the first model says that has it."""

    owner: str
    data_type: int
    dims: tuple[int, ...]
    batched: bool

    @property
    def full(self) -> tuple[int, ...]:
        """The shape with its batch dimension."""
        return (-1, *self.dims) if self.batched else self.dims

    def __str__(self) -> str:
        return f"{type_name(self.data_type)}{list(self.full)} in '{self.owner}'"


def check(model: Model, served: Served, broken: set[str]) -> Iterator[Finding]:
    """All that is wrong between an ensemble and its models; `broken` are the models that are refused already."""
    absent = list(check_models(model, served, broken))
    yield from absent
    if circle := circle_of(model, served):
        yield CIRCLE.at(
            model.place("ensemble_scheduling"),
            found=" → ".join(circle),
            expected="ensembles that do not contain themselves",
            remedy="remove one of the steps",
        )
    elif not absent and model.name not in broken:
        yield from check_fit(model, served)


def steps_of(model: Model) -> Sequence[Any]:
    """The steps of an ensemble."""
    return list(model.config.ensemble_scheduling.step)


def check_models(model: Model, served: Served, broken: set[str]) -> Iterator[Finding]:
    """Each step's model is there, loads, and has the version that is asked for."""
    for number, step in enumerate(steps_of(model)):
        place = model.place("ensemble_scheduling", 0, "step", number, "model_name")
        name = step.model_name
        if name in broken:
            yield BROKEN.at(
                place, found=f"model '{name}' is refused", expected="a model that loads", remedy="see its findings"
            )
        elif name not in served.models:
            known = ", ".join(sorted(other for other in served.models if other != model.name)) or "none"
            yield MISSING.at(
                place,
                found=f"no model '{name}'",
                expected=f"a model of this repository: {known}",
                remedy="correct the name",
            )
        elif step.model_version not in (-1, *served.models[name].wanted):
            loaded = ", ".join(map(str, served.models[name].wanted)) or "none"
            yield VERSION.at(
                model.place("ensemble_scheduling", 0, "step", number, "model_version"),
                found=f"version {step.model_version} of '{name}'"
                + " (what no model_version means)" * (not step.model_version),
                expected=f"-1 for the newest, or a version that its policy loads: {loaded}",
                remedy="set model_version: -1, or change that model's version_policy",
                fix=None if step.model_version else Fix(place, "model_name", "model_version: -1 model_name"),
            )


def circle_of(model: Model, served: Served) -> list[str]:
    """The way from an ensemble through others back to itself; empty when there is none."""

    def walk(name: str, way: list[str]) -> list[str]:
        for step in steps_of(served.models[name]) if name in served.models else []:
            if step.model_name == model.name:
                return [*way, model.name]
            if step.model_name not in way and (found := walk(step.model_name, [*way, step.model_name])):
                return found
        return []

    return walk(model.name, [model.name])


def check_fit(model: Model, served: Served) -> Iterator[Finding]:
    """Batch sizes, names, data types and shapes of all steps fit."""
    tensors: dict[str, Tensor] = {}
    batched = model.config.max_batch_size > 0
    for tensor in (*model.config.input, *model.config.output):
        dims = tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims
        tensors.setdefault(tensor.name, Tensor(model.name, tensor.data_type, tuple(dims), batched))
    for number, step in enumerate(steps_of(model)):
        member = served.models[step.model_name]
        yield from check_batch(model, number, member)
        for role in ("input", "output"):
            yield from check_maps(model, number, member, role, tensors)
    yield from decoupled.check(model, served)


def check_batch(model: Model, number: int, member: Model) -> Iterator[Finding]:
    """A step takes batches as large as the ensemble; one that takes none is let through."""
    own, theirs = model.config.max_batch_size, member.config.max_batch_size
    if theirs and theirs < own:
        yield BATCH.at(
            model.place("max_batch_size"),
            found=f"max_batch_size {own} with '{member.name}' in it, which takes {theirs}",
            expected=f"at most {theirs}",
            remedy=f"set max_batch_size: {theirs}, or raise it in {member.name}",
        )


def check_maps(model: Model, number: int, member: Model, role: str, tensors: dict[str, Tensor]) -> Iterator[Finding]:
    """One step's input_map or output_map."""
    path = ("ensemble_scheduling", 0, "step", number)
    step = steps_of(model)[number]
    entries = dict(getattr(step, f"{role}_map"))
    tensors_there = [tensor.name for tensor in getattr(member.config, role)]
    theirs = {tensor.name: tensor for tensor in getattr(member.config, role)}
    for name in entries:
        if name not in theirs:
            yield NO_TENSOR.at(
                model.place(*path, f"{role}_map[{name}]"),
                found=f"'{member.name}' has no {role} '{name}'",
                expected=f"one of {', '.join(theirs) or 'none'}",
                remedy="the key is the model's name of a tensor, the value the ensemble's",
            )
        elif role == "output" and tensors_there.count(name) > 1:
            yield OUTPUT_TWICE.at(
                model.place(*path, f"{role}_map[{name}]"),
                found=f"'{member.name}' has {tensors_there.count(name)} outputs '{name}'",
                expected="one",
                remedy=f"rename or remove the others in {member.name}",
            )
    for name, tensor in theirs.items():
        if name in entries:
            place = model.place(*path, f"{role}_map[{name}]")
            batched = member.config.max_batch_size > 0
            mine = Tensor(member.name, tensor.data_type, tuple(tensor.dims), batched)
            yield from check_same(place, entries[name], tensors.setdefault(entries[name], mine), mine)
        elif role == "input" and not tensor.optional:
            yield UNMAPPED.at(
                model.place(*path, "input_map"),
                found=f"input '{name}' of '{member.name}' is not mapped",
                expected="a tensor for each input that is not optional",
                remedy=f'add input_map {{ key: "{name}" value: "…" }}',
            )


def check_same(place: Place, name: str, first: Tensor, second: Tensor) -> Iterator[Finding]:
    """Two models mean the same by a tensor."""
    if first.data_type != second.data_type:
        yield TYPE.at(
            place,
            found=f"'{name}' is {second}",
            expected=f"{first}",
            remedy="give both one data type, or put a step between them",
        )
    elif not (alike(first.dims, second.dims) or alike(first.full, second.full)):
        yield SHAPE.at(
            place,
            found=f"'{name}' is {second}",
            expected=f"{first} (the first -1 is the batch)" if first.batched else str(first),
            remedy="give both one shape, -1 where it varies",
        )


def alike(first: Sequence[int], second: Sequence[int]) -> bool:
    """Whether two shapes can be the same."""
    return len(first) == len(second) and all(a == b or -1 in (a, b) for a, b in zip(first, second, strict=True))
