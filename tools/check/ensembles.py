"""Ensembles on their own, whatever their steps are; steps.py checks them against the models of their steps."""

from collections.abc import Iterator
from typing import Any

from tools.check.finding import Finding, Rule
from tools.check.served import ENSEMBLE, Model

NO_SCHEDULING = Rule("ensemble-scheduling", "An ensemble has no ensemble_scheduling", "core")
PLATFORM = Rule("ensemble-platform", "ensemble_scheduling in a model that is not an ensemble", "core")
FORBIDDEN = Rule("ensemble-field", "instance_group, optimization or model_warmup in an ensemble", "core")
NO_STEP = Rule("ensemble-empty", "An ensemble has no step", "core")
STEP_FIELD = Rule("step-field", "A step lacks model_name, input_map or output_map", "core")
WRITTEN_TWICE = Rule("tensor-written-twice", "Two step outputs write the same ensemble tensor", "core")
UNUSED = Rule(
    "tensor-unused",
    "A tensor of an ensemble leads nowhere: an input or output is not mapped, or a tensor is never read or written",
    "core",
)
UNREACHABLE = Rule("tensor-not-written", "An output of an ensemble cannot be reached from its inputs", "core")
RULES = (NO_SCHEDULING, PLATFORM, FORBIDDEN, NO_STEP, STEP_FIELD, WRITTEN_TWICE, UNUSED, UNREACHABLE)


def check(model: Model) -> Iterator[Finding]:
    """Yield all findings that an ensemble's own config shows."""
    config = model.config
    if not config.HasField("ensemble_scheduling"):
        if config.platform == ENSEMBLE:
            yield NO_SCHEDULING.at(
                model.place("platform"),
                found="platform 'ensemble' without ensemble_scheduling",
                expected="ensemble_scheduling with steps",
                remedy="add it, or set a backend instead",
            )
        return
    if config.platform != ENSEMBLE:
        yield PLATFORM.at(
            model.place("ensemble_scheduling"),
            found=f"ensemble_scheduling with platform '{config.platform}'",
            expected=f"platform '{ENSEMBLE}'",
            remedy=f'set platform: "{ENSEMBLE}" and remove backend, or remove ensemble_scheduling',
        )
    yield from _check_forbidden(model)
    steps = list(_check_steps(model))
    yield from steps
    if not steps:
        yield from _check_flow(model)


def _check_forbidden(model: Model) -> Iterator[Finding]:
    for name in ("instance_group", "optimization", "model_warmup"):
        is_set = model.config.HasField(name) if name == "optimization" else len(getattr(model.config, name))
        if is_set:
            yield FORBIDDEN.at(
                model.place(name),
                found=f"{name} in an ensemble",
                expected=f"{name} only in the models of its steps",
                remedy="move it there",
            )


def _check_steps(model: Model) -> Iterator[Finding]:
    steps = model.config.ensemble_scheduling.step
    if not steps:
        yield NO_STEP.at(
            model.place("ensemble_scheduling"), found="no steps", expected="at least one", remedy="add `step [ … ]`"
        )
    written: set[str] = set()
    for number, step in enumerate(steps):
        path = ("ensemble_scheduling", "step", number)
        for name in ("model_name", "input_map", "output_map"):
            if not getattr(step, name):
                found = f"step {number + 1} ('{step.model_name}') without {name}"
                yield STEP_FIELD.at(model.place(*path), found=found, expected=name, remedy=f"add {name}")
        for output, tensor in step.output_map.items():
            if tensor in written:
                yield WRITTEN_TWICE.at(
                    model.place(*path, f"output_map[{output}]"),
                    found=f"step {number + 1} writes '{tensor}', which an earlier output writes already",
                    expected="one writer per tensor",
                    remedy="write a tensor of another name",
                )
            written.add(tensor)


def _check_flow(model: Model) -> Iterator[Finding]:
    steps, inputs = model.config.ensemble_scheduling.step, {tensor.name for tensor in model.config.input}
    read = {tensor for step in steps for tensor in step.input_map.values()}
    written = {tensor: step for step in steps for tensor in step.output_map.values()}
    reached = inputs | {
        tensor for ready in rounds(model) for number in ready for tensor in steps[number].output_map.values()
    }
    outputs = {output.name for output in model.config.output}
    for role in ("input", "output"):
        for number, tensor in enumerate(getattr(model.config, role)):
            if tensor.name not in read | written.keys():
                yield UNUSED.at(
                    model.place(role, number),
                    found=f"{role} '{tensor.name}' is in no step's {role}_map",
                    expected=f"a step that {'reads' if role == 'input' else 'writes'} it",
                    remedy=f"map it, or remove it; the steps have {', '.join(sorted(read | written.keys()))}",
                )
            elif role == "output" and tensor.name not in reached:
                yield _unreachable(model, number, tensor.name, written, reached)
    for name in sorted((read | written.keys()) - outputs):
        if name not in reached or name not in read:
            yield UNUSED.at(
                model.place(*_find_entry(model, name)),
                found=f"tensor '{name}' is never " + ("read" if name in reached else "written"),
                expected="a tensor that the request or a step writes and a step reads",
                remedy="remove its map entry, or correct the name",
            )


def _unreachable(model: Model, number: int, name: str, written: dict[str, Any], reached: set[str]) -> Finding:
    missing = sorted(set(written[name].input_map.values()) - reached) if name in written else []
    return UNREACHABLE.at(
        model.place("output", number),
        found=f"output '{name}' is never written" + (f": it waits for {', '.join(missing)}" if missing else ""),
        expected="a path from the inputs to it, without a cycle",
        remedy="correct the names in input_map and output_map",
    )


def rounds(model: Model) -> Iterator[list[int]]:
    """Yield the steps that can run at once, one list after the other; those that wait for ever are in none."""
    known = {tensor.name for tensor in model.config.input}
    pending = dict(enumerate(model.config.ensemble_scheduling.step))
    while ready := [number for number, step in pending.items() if set(step.input_map.values()) <= known]:
        yield ready
        known |= {tensor for number in ready for tensor in pending.pop(number).output_map.values()}


def _find_entry(model: Model, tensor: str) -> tuple[str | int, ...]:
    """Return the path of the first map entry with a tensor."""
    for number, step in enumerate(model.config.ensemble_scheduling.step):
        for name in ("input_map", "output_map"):
            for key, value in getattr(step, name).items():
                if value == tensor:
                    return ("ensemble_scheduling", "step", number, f"{name}[{key}]")
    return ("ensemble_scheduling",)
