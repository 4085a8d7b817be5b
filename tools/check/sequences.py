"""The sequence batcher: control tensors, strategies, and the state that Triton keeps between requests."""

from collections.abc import Iterator
from typing import Any

from tritonclient.grpc.model_config_pb2 import DataType, ModelInstanceGroup, ModelSequenceBatching

from tools.check.batching import check_preferred
from tools.check.finding import Finding, Rule
from tools.check.served import Model
from tools.check.tensors import type_name
from tools.check.warmup import byte_size

BASE = 'name: "model"\nbackend: "pytorch"\nmax_batch_size: 8\n'
START = "control { kind: CONTROL_SEQUENCE_START"
STATE = BASE + 'sequence_batching { state { input_name: "IN" output_name: "OUT" data_type: TYPE_FP32 dims: [ 4 ] '
INITIAL = STATE + 'initial_state { name: "zeros" data_type: TYPE_FP32 dims: [ 4 ] '

CONTROL_NAME = Rule(
    "control-name",
    "A control tensor has no name, or two have the same",
    "core",
    BASE + "sequence_batching { control_input { " + START + " fp32_false_true: [ 0, 1 ] } } }",
)
CONTROL_TWICE = Rule(
    "control-twice",
    "Two control tensors are of one kind",
    "core",
    BASE
    + "sequence_batching {\n"
    + '  control_input { name: "A" ' + START + " fp32_false_true: [ 0, 1 ] } }\n"
    + '  control_input { name: "B" ' + START + " fp32_false_true: [ 0, 1 ] } }\n}",
)  # fmt: skip
CONTROL_VALUES = Rule(
    "control-values",
    "A control that is on or off needs one of int32_false_true, fp32_false_true, bool_false_true, of two values",
    "core",
    BASE + 'sequence_batching { control_input { name: "START" ' + START + " fp32_false_true: [ 1 ] } } }",
)
CORRELATION = Rule(
    "correlation-id",
    "The control with the correlation ID has values for false and true, or a data type that no ID has",
    "core",
    BASE
    + 'sequence_batching { control_input { name: "ID" '
    + "control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_FP32 } } }",
)
UTILIZATION = Rule(
    "slot-utilization",
    "minimum_slot_utilization is not between 0 and 1",
    "core",
    BASE + "sequence_batching { direct { minimum_slot_utilization: 1.5 } }",
)
INITIAL_COUNT = Rule(
    "initial-state-count",
    "A state has more than one initial state",
    "core",
    INITIAL + 'zero_data: true } initial_state { name: "b" data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } } }',
)
INITIAL_TYPE = Rule(
    "initial-state-type",
    "An initial state's data type is not its state's",
    "core",
    STATE + 'initial_state { name: "zeros" data_type: TYPE_FP16 dims: [ 4 ] zero_data: true } } }',
)
INITIAL_NAME = Rule(
    "initial-state-name",
    "An initial state has no name, or its state's input_name comes twice",
    "core",
    STATE + "initial_state { data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } } }",
)
INITIAL_DIMS = Rule(
    "initial-state-dims",
    "An initial state's dims vary, or are not its state's",
    "core",
    STATE + 'initial_state { name: "zeros" data_type: TYPE_FP32 dims: [ 5 ] zero_data: true } } }',
)
INITIAL_DATA = Rule(
    "initial-state-data",
    "An initial state has no data, or its file does not exist or is too short",
    "core",
    INITIAL + "} } }",
)
GROWABLE = Rule(
    "growable-memory",
    "use_growable_memory without use_same_buffer_for_input_output, or not on a GPU: the first request fails",
    example=STATE + "use_growable_memory: true } }",
)
RULES = (
    *(CONTROL_NAME, CONTROL_TWICE, CONTROL_VALUES, CORRELATION, UTILIZATION),
    *(INITIAL_COUNT, INITIAL_TYPE, INITIAL_NAME, INITIAL_DIMS, INITIAL_DATA, GROWABLE),
)

Control = ModelSequenceBatching.Control
SWITCHES = (Control.CONTROL_SEQUENCE_START, Control.CONTROL_SEQUENCE_END, Control.CONTROL_SEQUENCE_READY)
VALUES = ("int32_false_true", "fp32_false_true", "bool_false_true")
IDS = ("TYPE_UINT64", "TYPE_INT64", "TYPE_UINT32", "TYPE_INT32", "TYPE_STRING")
STATE_FOLDER = "initial_state"


def check(model: Model) -> Iterator[Finding]:
    """All that is wrong with a model's sequences."""
    if not model.config.HasField("sequence_batching"):
        return
    batching = model.config.sequence_batching
    yield from check_controls(model, batching)
    yield from check_preferred(model, batching.oldest.preferred_batch_size, "sequence_batching", 0, "oldest")
    if not 0 <= batching.direct.minimum_slot_utilization <= 1:
        yield UTILIZATION.at(
            model.place("sequence_batching", 0, "direct", 0, "minimum_slot_utilization"),
            found=f"minimum_slot_utilization {batching.direct.minimum_slot_utilization:g}",
            expected="0 to 1",
            remedy="give the share of slots that must be taken, for example 0.5",
        )
    if not model.ensemble:
        yield from check_states(model, batching)


def check_controls(model: Model, batching: Any) -> Iterator[Finding]:
    """Names and kinds are unique, and each control has the values that its kind needs."""
    names: set[str] = set()
    kinds: set[int] = set()
    for number, tensor in enumerate(batching.control_input):
        path = ("sequence_batching", 0, "control_input", number)
        if not tensor.name or tensor.name in names:
            yield CONTROL_NAME.at(
                model.place(*path),
                found=f"control tensor '{tensor.name}' again" if tensor.name else "a control tensor without a name",
                expected="a name of its own",
                remedy="give it another name; one tensor may hold several controls",
            )
        names.add(tensor.name)
        for index, control in enumerate(tensor.control):
            place = (*path, "control", index)
            if control.kind in kinds:
                yield CONTROL_TWICE.at(
                    model.place(*place),
                    found=f"{kind_name(control.kind)} again",
                    expected="each kind once",
                    remedy="remove one of the two",
                )
            kinds.add(control.kind)
            yield from check_control(model, control, place)


def kind_name(kind: int) -> str:
    """A control's kind for a message."""
    return str(Control.Kind.Name(kind)) if kind in Control.Kind.values() else str(kind)


def check_control(model: Model, control: Any, path: tuple[str | int, ...]) -> Iterator[Finding]:
    """The values of one control."""
    given = {name: len(getattr(control, name)) for name in VALUES if len(getattr(control, name))}
    shown = " and ".join(f"{name} of {count} values" for name, count in given.items()) or "no values"
    if control.kind in SWITCHES and list(given.values()) != [2]:
        yield CONTROL_VALUES.at(
            model.place(*path),
            found=f"{kind_name(control.kind)} with {shown}",
            expected="one of " + ", ".join(VALUES) + ", of two values",
            remedy="write for example fp32_false_true: [ 0, 1 ]",
        )
    elif control.kind == Control.CONTROL_SEQUENCE_CORRID and (given or type_name(control.data_type) not in IDS):
        yield CORRELATION.at(
            model.place(*path),
            found=f"{kind_name(control.kind)} with {shown} and {type_name(control.data_type)}",
            expected="a data_type alone: " + ", ".join(IDS),
            remedy="set data_type: TYPE_UINT64",
        )


def check_states(model: Model, batching: Any) -> Iterator[Finding]:
    """States and what they begin with."""
    named: set[str] = set()
    for number, state in enumerate(batching.state):
        path = ("sequence_batching", 0, "state", number)
        if len(state.initial_state) > 1:
            yield INITIAL_COUNT.at(
                model.place(*path, "initial_state", 1),
                found=f"{len(state.initial_state)} initial states for '{state.input_name}'",
                expected="one at most",
                remedy="keep one",
            )
        elif state.initial_state:
            yield from check_initial(model, state, named, (*path, "initial_state"))
        if state.use_growable_memory and not (state.use_same_buffer_for_input_output and on_gpu(model)):
            yield GROWABLE.at(
                model.place(*path, "use_growable_memory"),
                found=f"use_growable_memory for state '{state.input_name}'",
                expected="use_same_buffer_for_input_output: true, and instances of KIND_GPU",
                remedy="set both, or remove use_growable_memory",
            )


def on_gpu(model: Model) -> bool:
    """Whether all instances are asked for on a GPU."""
    groups = model.config.instance_group
    return bool(groups) and all(group.kind == ModelInstanceGroup.KIND_GPU for group in groups)


def check_initial(model: Model, state: Any, named: set[str], path: tuple[str | int, ...]) -> Iterator[Finding]:
    """One initial state."""
    initial, who, place = state.initial_state[0], f"initial state of '{state.input_name}'", model.place(*path)
    if initial.data_type != state.data_type:
        yield INITIAL_TYPE.at(
            place,
            found=f"{who} is {type_name(initial.data_type)}",
            expected=type_name(state.data_type),
            remedy="give both one data_type",
        )
    if not initial.name or state.input_name in named:
        yield INITIAL_NAME.at(
            place,
            found=f"{who} " + ("comes again" if initial.name else "has no name"),
            expected="a name, and one initial state for each input_name",
            remedy="name it, or remove one of the two",
        )
    named.add(state.input_name)
    fits = len(initial.dims) == len(state.dims) and all(
        here >= 0 and there in (-1, here) for here, there in zip(initial.dims, state.dims, strict=True)
    )
    if not fits:
        yield INITIAL_DIMS.at(
            place,
            found=f"{who} has dims {list(initial.dims)}",
            expected=f"the state's dims {list(state.dims)}, with a size in place of each -1",
            remedy="correct the dims",
        )
    elif missing := missing_data(model, initial):
        yield INITIAL_DATA.at(
            place,
            found=f"{who} {missing}",
            expected=f"zero_data: true, or a data_file in {model.name}/{STATE_FOLDER}/",
            remedy="add zero_data: true, or the file",
        )


def missing_data(model: Model, initial: Any) -> str:
    """What is missing of an initial state's data; empty when nothing is."""
    source = initial.WhichOneof("state_data")
    if source is None:
        return "has no data"
    if source == "zero_data":
        return ""
    file = model.folder / STATE_FOLDER / initial.data_file
    if not file.is_file():
        return f"is in a file that does not exist: {STATE_FOLDER}/{initial.data_file}"
    wanted = byte_size(initial.data_type, initial.dims)
    short = initial.data_type != DataType.TYPE_STRING and file.stat().st_size < wanted
    return f"needs {wanted} bytes and {initial.data_file} has {file.stat().st_size}" if short else ""
