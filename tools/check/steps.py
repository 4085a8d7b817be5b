"""Ensembles against the models of their steps: existence, versions, tensor names, types, shapes and batch sizes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.check.ensembles import rounds
from tools.check.finding import Finding, Fix, Place, Rule
from tools.check.served import Model, Served, config_names, load
from tools.check.tensors import type_name

MISSING = Rule("step-model-missing", "A step's model is not in the repository", "core")
BROKEN = Rule("step-model-broken", "A step's model does not load", "core")
VERSION = Rule("step-version", "A step requests a version that is not loaded", "core")
CYCLE = Rule(
    "ensemble-circle",
    "Ensembles contain each other (loading an ensemble that contains them crashes the server)",
    "core",
)
BATCH = Rule("ensemble-batch-size", "An ensemble allows larger batches than one of its models", "core")
NO_TENSOR = Rule("step-tensor-missing", "A step maps an input or output that its model lacks", "core")
UNMAPPED = Rule("step-input-unmapped", "A step leaves an input of its model unmapped", "core")
TYPE = Rule("ensemble-type", "A tensor has different data types in an ensemble and in one of its models", "core")
SHAPE = Rule("ensemble-shape", "A tensor has incompatible shapes in an ensemble and in one of its models", "core")
OUTPUT_TWICE = Rule("step-output-twice", "A step maps an output name that its model has twice", "core")
DECOUPLED = Rule(
    "ensemble-decoupled",
    "A step, or the client, gets tensors from a decoupled model and from elsewhere: they do not arrive in pairs",
    "core",
)
QUEUE = Rule(
    "step-queue-full",
    "The queue of a step that runs beside another is limited: a request that it refuses ends the server, or waits for "
    "ever (core#466)",
    level="error",
    until="26.02",
)
RULES = (QUEUE, MISSING, BROKEN, VERSION, CYCLE, BATCH, NO_TENSOR, UNMAPPED, TYPE, SHAPE, OUTPUT_TWICE, DECOUPLED)


@dataclass(frozen=True)
class _Tensor:
    """A tensor of an ensemble as the first model that has it declares it."""

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
    """Yield all findings about an ensemble and its models; `broken` names models that do not load."""
    unusable = list(_check_models(model, served, broken))
    yield from unusable
    if cycle := _find_cycle(model, served):
        yield CYCLE.at(
            model.place("ensemble_scheduling"),
            found=" → ".join(cycle),
            expected="no ensemble that contains itself",
            remedy="remove one of the steps",
        )
    elif not unusable and model.name not in broken:
        yield from _check_fit(model, served)


def steps_of(model: Model) -> Sequence[Any]:
    """The steps of an ensemble."""
    return list(model.config.ensemble_scheduling.step)


def _check_models(model: Model, served: Served, broken: set[str]) -> Iterator[Finding]:
    for number, step in enumerate(steps_of(model)):
        place = model.place("ensemble_scheduling", "step", number, "model_name")
        name = step.model_name
        if name in broken:
            yield BROKEN.at(
                place, found=f"model '{name}' does not load", expected="a model that loads", remedy="see its findings"
            )
        elif name not in served.models:
            known = ", ".join(sorted(other for other in served.models if other != model.name)) or "none"
            yield MISSING.at(
                place,
                found=f"unknown model '{name}'",
                expected=f"a model of this repository: {known}",
                remedy="correct the name",
            )
        elif step.model_version not in (-1, *served.models[name].wanted):
            loaded = ", ".join(map(str, served.models[name].wanted)) or "none"
            yield VERSION.at(
                model.place("ensemble_scheduling", "step", number, "model_version"),
                found=f"version {step.model_version} of '{name}'"
                + " (the default of model_version)" * (not step.model_version),
                expected=f"-1 for the newest, or a version that its policy loads: {loaded}",
                remedy="set model_version: -1, or change the model's version_policy",
                fix=None if step.model_version else Fix(place, "model_name", "model_version: -1 model_name"),
            )


def promised_batch_size(model: str, repository: Path) -> int:
    """The largest batch that an ensemble passes on to one of its models, under any config name; 0 for none."""
    ensembles = (other for name in ("", *config_names(repository)) for other in load(repository, name).models.values())
    users = [other for other in ensembles if model in {step.model_name for step in steps_of(other)}]
    return max((user.config.max_batch_size for user in users), default=0)


def _find_cycle(model: Model, served: Served) -> list[str]:
    """The names of models on the way from an ensemble back to itself; empty if there is none."""

    def walk(name: str, path: list[str]) -> list[str]:
        for step in steps_of(served.models[name]) if name in served.models else []:
            if step.model_name == model.name:
                return [*path, model.name]
            if step.model_name not in path and (cycle := walk(step.model_name, [*path, step.model_name])):
                return cycle
        return []

    return walk(model.name, [model.name])


def _check_fit(model: Model, served: Served) -> Iterator[Finding]:
    tensors: dict[str, _Tensor] = {}
    batched = model.config.max_batch_size > 0
    for tensor in (*model.config.input, *model.config.output):
        dims = tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims
        tensors.setdefault(tensor.name, _Tensor(model.name, tensor.data_type, tuple(dims), batched))
    for number, step in enumerate(steps_of(model)):
        member = served.models[step.model_name]
        if member.completion and not member.completion.known:
            continue
        yield from _check_batch(model, number, member)
        yield from _check_queue(model, number, member)
        for role in ("input", "output"):
            yield from _check_maps(model, number, member, role, tensors)
    yield from _check_decoupled(model, served)


def _check_batch(model: Model, number: int, member: Model) -> Iterator[Finding]:
    own, largest = model.config.max_batch_size, member.config.max_batch_size
    if largest and largest < own:  # Triton accepts a member without a batch dimension.
        yield BATCH.at(
            model.place("max_batch_size"),
            found=f"max_batch_size {own}, while '{member.name}' takes {largest}" + _variant(member),
            expected=f"at most {largest}",
            remedy=f"set max_batch_size: {largest}, or raise it in {member.name}",
        )


def _check_queue(model: Model, number: int, member: Model) -> Iterator[Finding]:
    """Yield a finding if a request can be refused while another step works on the same request."""
    size = member.config.dynamic_batching.default_queue_policy.max_queue_size
    if size and any(len(ready) > 1 for ready in rounds(model)):
        yield QUEUE.at(
            model.place("ensemble_scheduling", "step", number, "model_name"),
            found=f"'{member.name}' with max_queue_size {size}, in an ensemble whose steps run side by side",
            expected="no limit in the models of such an ensemble",
            remedy="remove it, and limit requests before they reach the server",
        )


def _variant(member: Model) -> str:
    """Where a member's config is, if that is not config.pbtxt."""
    file = member.source.file
    return f" in configs/{file.name}" if file.parent != member.folder else ""


def _check_maps(model: Model, number: int, member: Model, role: str, tensors: dict[str, _Tensor]) -> Iterator[Finding]:
    path = ("ensemble_scheduling", "step", number)
    step = steps_of(model)[number]
    entries = dict(getattr(step, f"{role}_map"))
    names = [tensor.name for tensor in getattr(member.config, role)]
    declared = {tensor.name: tensor for tensor in getattr(member.config, role)}
    for name in entries:
        if name not in declared:
            yield NO_TENSOR.at(
                model.place(*path, f"{role}_map[{name}]"),
                found=f"'{member.name}' has no {role} '{name}'",
                expected=f"one of {', '.join(declared) or 'none'}",
                remedy="the key is the tensor's name in the model, the value its name in the ensemble",
            )
        elif role == "output" and names.count(name) > 1:
            yield OUTPUT_TWICE.at(
                model.place(*path, f"{role}_map[{name}]"),
                found=f"'{member.name}' has {names.count(name)} outputs '{name}'",
                expected="one",
                remedy=f"rename or remove the others in {member.name}",
            )
    for name, tensor in declared.items():
        if name in entries:
            place = model.place(*path, f"{role}_map[{name}]")
            batched = member.config.max_batch_size > 0
            mine = _Tensor(member.name, tensor.data_type, tuple(tensor.dims), batched)
            yield from _check_same(place, entries[name], tensors.setdefault(entries[name], mine), mine)
        elif role == "input" and not tensor.optional:
            yield UNMAPPED.at(
                model.place(*path, "input_map"),
                found=f"input '{name}' of '{member.name}' is not mapped",
                expected="a tensor for each required input",
                remedy=f'add input_map {{ key: "{name}" value: "…" }}',
            )


def _check_same(place: Place, name: str, first: _Tensor, second: _Tensor) -> Iterator[Finding]:
    if first.data_type != second.data_type:
        yield TYPE.at(
            place,
            found=f"'{name}' is {second}",
            expected=str(first),
            remedy="use the same data type in both, or insert a step that converts it",
        )
    elif not (_compatible(first.dims, second.dims) or _compatible(first.full, second.full)):
        yield SHAPE.at(
            place,
            found=f"'{name}' is {second}",
            expected=f"{first} (the first -1 is the batch)" if first.batched else str(first),
            remedy="use the same shape in both, -1 where it varies",
        )


def _compatible(first: Sequence[int], second: Sequence[int]) -> bool:
    return len(first) == len(second) and all(a == b or -1 in (a, b) for a, b in zip(first, second, strict=True))


def _check_decoupled(model: Model, served: Served) -> Iterator[Finding]:
    """Yield a finding for each step, or the outputs, that mix a decoupled model's tensors with others.

    A decoupled model sends any number of responses to a request, so its tensors have no counterparts elsewhere.
    """
    sources: dict[str, int] = {tensor.name: 0 for tensor in model.config.input}
    for ready in rounds(model):
        for number in ready:
            step = model.config.ensemble_scheduling.step[number]
            origins = {sources[tensor] for tensor in step.input_map.values()}
            if len(origins) > 1:
                yield DECOUPLED.at(
                    model.place("ensemble_scheduling", "step", number, "input_map"),
                    found=f"step {number + 1} ('{step.model_name}') reads tensors of different origins",
                    expected="tensors that all come from one decoupled model, or from none",
                    remedy="pass the other tensors through the decoupled model",
                )
            decoupled = served.models[step.model_name].config.model_transaction_policy.decoupled
            origin = number + 1 if decoupled else max(origins)
            sources.update(dict.fromkeys(step.output_map.values(), origin))
    outputs = [output.name for output in model.config.output if output.name in sources]
    if len({sources[name] for name in outputs}) > 1:
        yield DECOUPLED.at(
            model.place("output"),
            found=f"outputs {', '.join(outputs)} of different origins",
            expected="outputs that all come from one decoupled model, or from none",
            remedy="pass the other tensors through the decoupled model",
        )
