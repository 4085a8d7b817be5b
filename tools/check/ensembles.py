"""Ensembles on their own: what holds whatever their steps are. steps.py looks at the models in them."""

from collections import defaultdict
from collections.abc import Iterator

from tools.check.finding import Finding, Rule
from tools.check.served import ENSEMBLE, Model

IO = """input { name: "A" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "B" data_type: TYPE_FP32 dims: [ 4 ] }
"""
BASE = 'name: "model"\nplatform: "ensemble"\nmax_batch_size: 8\n' + IO
STEP = '{ model_name: "member" model_version: -1\n    input_map { key: "X" value: "A" }\n    '
WHOLE = BASE + "ensemble_scheduling { step [\n  " + STEP + 'output_map { key: "Y" value: "B" } }\n] }\n'

NO_SCHEDULING = Rule("ensemble-scheduling", "An ensemble has no ensemble_scheduling", "core", BASE)
PLATFORM = Rule(
    "ensemble-platform",
    "ensemble_scheduling in a model that is no ensemble",
    "core",
    WHOLE.replace('platform: "ensemble"', 'backend: "pytorch"'),
)
FORBIDDEN = Rule(
    "ensemble-field",
    "instance_group, optimization or model_warmup in an ensemble",
    "core",
    WHOLE + "instance_group { kind: KIND_CPU }",
)
NO_STEP = Rule("ensemble-empty", "An ensemble has no step", "core", BASE + "ensemble_scheduling { }")
STEP_FIELD = Rule(
    "step-field",
    "A step lacks its model_name, input_map or output_map",
    "core",
    BASE + "ensemble_scheduling { step [ " + STEP + "} ] }",
)
WRITTEN_TWICE = Rule(
    "tensor-written-twice",
    "Two outputs of steps are written to one ensemble tensor",
    "core",
    BASE
    + """ensemble_scheduling { step [
  { model_name: "member" model_version: -1 input_map { key: "X" value: "A" } output_map { key: "Y" value: "B" } },
  { model_name: "member" model_version: -1 input_map { key: "X" value: "A" } output_map { key: "Y" value: "B" } }
] }
""",
)
UNUSED = Rule(
    "tensor-unused",
    "A tensor of an ensemble leads nowhere: no step maps an input or output, or nobody reads or fills a tensor",
    "core",
    WHOLE + 'input { name: "MORE" data_type: TYPE_FP32 dims: [ 4 ] }',
)
UNREACHABLE = Rule(
    "tensor-not-written",
    "An output of an ensemble cannot be reached from its inputs",
    "core",
    BASE
    + """ensemble_scheduling { step [
  { model_name: "two_inputs" model_version: -1
    input_map { key: "X" value: "A" } input_map { key: "X2" value: "back" } output_map { key: "Y" value: "B" } },
  { model_name: "member" model_version: -1 input_map { key: "X" value: "B" } output_map { key: "Y" value: "back" } }
] }
""",
)
RULES = (NO_SCHEDULING, PLATFORM, FORBIDDEN, NO_STEP, STEP_FIELD, WRITTEN_TWICE, UNUSED, UNREACHABLE)


def check(model: Model) -> Iterator[Finding]:
    """All that is wrong with an ensemble, as far as its own config tells."""
    config = model.config
    if not config.HasField("ensemble_scheduling"):
        if config.platform == ENSEMBLE:
            yield NO_SCHEDULING.at(
                model.place("platform"),
                found="platform 'ensemble' without ensemble_scheduling",
                expected="ensemble_scheduling with its steps",
                remedy="add it, or name a backend instead",
            )
        return
    if config.platform != ENSEMBLE:
        yield PLATFORM.at(
            model.place("ensemble_scheduling"),
            found=f"ensemble_scheduling with platform '{config.platform}'",
            expected=f"platform '{ENSEMBLE}'",
            remedy=f'set platform: "{ENSEMBLE}" and remove backend, or remove ensemble_scheduling',
        )
    yield from check_forbidden(model)
    steps = list(check_steps(model))
    yield from steps
    if not steps:
        yield from check_flow(model)


def check_forbidden(model: Model) -> Iterator[Finding]:
    """What belongs to the models in an ensemble, not to itself."""
    for name in ("instance_group", "optimization", "model_warmup"):
        there = model.config.HasField(name) if name == "optimization" else len(getattr(model.config, name))
        if there:
            yield FORBIDDEN.at(
                model.place(name),
                found=f"{name} in an ensemble",
                expected=f"{name} in the models of its steps",
                remedy="move it there",
            )


def check_steps(model: Model) -> Iterator[Finding]:
    """Each step is complete, and each tensor is written once."""
    steps = model.config.ensemble_scheduling.step
    if not steps:
        yield NO_STEP.at(
            model.place("ensemble_scheduling"), found="no step", expected="at least one", remedy="add `step [ … ]`"
        )
    written: set[str] = set()
    for number, step in enumerate(steps):
        path = ("ensemble_scheduling", 0, "step", number)
        for name in ("model_name", "input_map", "output_map"):
            if not getattr(step, name):
                found = f"step {number + 1} ('{step.model_name}') without {name}"
                yield STEP_FIELD.at(model.place(*path), found=found, expected="it", remedy=f"add {name}")
        for output, tensor in step.output_map.items():
            if tensor in written:
                yield WRITTEN_TWICE.at(
                    model.place(*path, f"output_map[{output}]"),
                    found=f"'{tensor}' is written by step {number + 1} again",
                    expected="one writer for each tensor",
                    remedy="write to a tensor of another name",
                )
            written.add(tensor)


def check_flow(model: Model) -> Iterator[Finding]:
    """Every tensor is reached from the inputs and leads to the outputs."""
    readers, writers = graph(model)
    tensors = set(readers) | set(writers)
    reached = reachable(model, writers)
    outputs = {output.name for output in model.config.output}
    for role in ("input", "output"):
        for number, tensor in enumerate(getattr(model.config, role)):
            if tensor.name not in tensors:
                yield UNUSED.at(
                    model.place(role, number),
                    found=f"{role} '{tensor.name}' is in no step's {role}_map",
                    expected=f"a step that {'reads' if role == 'input' else 'writes'} it",
                    remedy=f"map it, or remove it; steps have {', '.join(sorted(tensors))}",
                )
            elif role == "output" and tensor.name not in reached:
                yield not_written(model, number, tensor.name, writers, reached)
    for name in sorted(tensors - outputs):
        if name not in reached or name not in readers:
            yield UNUSED.at(
                model.place(*where(model, name)),
                found=f"tensor '{name}' is " + ("read by no step" if name in reached else "never filled"),
                expected="a tensor that one step or the request fills and another step reads",
                remedy="remove its map entry, or correct the name",
            )


def graph(model: Model) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """The steps that read each tensor, and those that write it, with the tensors which they write it from."""
    readers, writers = defaultdict(list), defaultdict(list)
    for number, step in enumerate(model.config.ensemble_scheduling.step):
        for tensor in step.input_map.values():
            readers[tensor].append(number)
        for tensor in step.output_map.values():
            writers[tensor].append(number)
    return dict(readers), dict(writers)


def reachable(model: Model, writers: dict[str, list[int]]) -> set[str]:
    """Tensors that are filled once the inputs are."""
    steps = model.config.ensemble_scheduling.step
    reached = {tensor.name for tensor in model.config.input}
    while new := {
        tensor
        for tensor, numbers in writers.items()
        if tensor not in reached and all(set(steps[number].input_map.values()) <= reached for number in numbers)
    }:
        reached |= new
    return reached


def not_written(model: Model, number: int, name: str, writers: dict[str, list[int]], reached: set[str]) -> Finding:
    """An output that waits for something for ever."""
    steps = model.config.ensemble_scheduling.step
    waits = sorted({tensor for step in writers.get(name, []) for tensor in steps[step].input_map.values()} - reached)
    return UNREACHABLE.at(
        model.place("output", number),
        found=f"output '{name}' is never written" + (f": it waits for {', '.join(waits)}" if waits else ""),
        expected="a way from the inputs to it, without a circle",
        remedy="correct the names in input_map and output_map",
    )


def where(model: Model, tensor: str) -> tuple[str | int, ...]:
    """The place of the first map entry with a tensor."""
    for number, step in enumerate(model.config.ensemble_scheduling.step):
        for name in ("input_map", "output_map"):
            for key, value in getattr(step, name).items():
                if value == tensor:
                    return ("ensemble_scheduling", 0, "step", number, f"{name}[{key}]")
    return ("ensemble_scheduling",)
