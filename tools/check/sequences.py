"""The sequence batcher: control tensors, strategies, and the state that Triton keeps between requests."""

from collections.abc import Iterator
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelInstanceGroup, ModelSequenceBatching

from clients.contract import fits
from tools.check.batching import check_preferred
from tools.check.finding import Finding, Rule
from tools.check.served import Model
from tools.check.tensors import type_name
from tools.check.warmup import file_problem

CONTROL_NAME = Rule("control-name", "A control tensor has no name, or the name of another one", "core")
CONTROL_TWICE = Rule("control-twice", "Two controls of the same kind", "core")
CONTROL_VALUES = Rule(
    "control-values",
    "A boolean control needs one of int32_false_true, fp32_false_true or bool_false_true, with two values",
    "core",
)
CORRELATION = Rule(
    "correlation-id",
    "The correlation ID control has values for false and true, or an unsupported data type",
    "core",
)
UTILIZATION = Rule("slot-utilization", "minimum_slot_utilization is not between 0 and 1", "core")
INITIAL_COUNT = Rule("initial-state-count", "A state has more than one initial state", "core")
INITIAL_TYPE = Rule("initial-state-type", "An initial state's data type differs from its state's", "core")
INITIAL_NAME = Rule("initial-state-name", "An initial state has no name, or shares its input_name with another", "core")
INITIAL_DIMS = Rule("initial-state-dims", "An initial state's dims are variable, or differ from its state's", "core")
INITIAL_DATA = Rule("initial-state-data", "An initial state has no data, or its file is missing or too short", "core")
GROWABLE = Rule(
    "growable-memory",
    "use_growable_memory without use_same_buffer_for_input_output, or not on a GPU: the first request fails",
)
RULES = (
    *(CONTROL_NAME, CONTROL_TWICE, CONTROL_VALUES, CORRELATION, UTILIZATION),
    *(INITIAL_COUNT, INITIAL_TYPE, INITIAL_NAME, INITIAL_DIMS, INITIAL_DATA, GROWABLE),
)

_Control = ModelSequenceBatching.Control
_SWITCHES = (_Control.CONTROL_SEQUENCE_START, _Control.CONTROL_SEQUENCE_END, _Control.CONTROL_SEQUENCE_READY)
_VALUES = ("int32_false_true", "fp32_false_true", "bool_false_true")
_IDS = ("TYPE_UINT64", "TYPE_INT64", "TYPE_UINT32", "TYPE_INT32", "TYPE_STRING")
_STATE_FOLDER = "initial_state"


def check(model: Model) -> Iterator[Finding]:
    """Yield all findings about sequence batching."""
    if not model.config.HasField("sequence_batching"):
        return
    batching = model.config.sequence_batching
    yield from _check_controls(model, batching)
    yield from check_preferred(model, batching.oldest.preferred_batch_size, "sequence_batching", "oldest")
    if not 0 <= batching.direct.minimum_slot_utilization <= 1:
        yield UTILIZATION.at(
            model.place("sequence_batching", "direct", "minimum_slot_utilization"),
            found=f"minimum_slot_utilization {batching.direct.minimum_slot_utilization:g}",
            expected="0 to 1",
            remedy="set the share of slots that must be in use, for example 0.5",
        )
    if not model.ensemble:
        yield from _check_states(model, batching)


def _check_controls(model: Model, batching: Any) -> Iterator[Finding]:
    names: set[str] = set()
    kinds: set[int] = set()
    for number, tensor in enumerate(batching.control_input):
        path = ("sequence_batching", "control_input", number)
        if not tensor.name or tensor.name in names:
            yield CONTROL_NAME.at(
                model.place(*path),
                found=f"another control tensor '{tensor.name}'" if tensor.name else "a control tensor without a name",
                expected="a unique name",
                remedy="rename it; one tensor may hold several controls",
            )
        names.add(tensor.name)
        for index, control in enumerate(tensor.control):
            place = (*path, "control", index)
            if control.kind in kinds:
                yield CONTROL_TWICE.at(
                    model.place(*place),
                    found=f"another {_kind_name(control.kind)}",
                    expected="each kind once",
                    remedy="remove one of them",
                )
            kinds.add(control.kind)
            yield from _check_control(model, control, place)


def _kind_name(kind: int) -> str:
    return str(_Control.Kind.Name(kind)) if kind in _Control.Kind.values() else str(kind)


def _check_control(model: Model, control: Any, path: tuple[str | int, ...]) -> Iterator[Finding]:
    given = {name: len(getattr(control, name)) for name in _VALUES if len(getattr(control, name))}
    values = " and ".join(f"{name} of {count} values" for name, count in given.items()) or "no values"
    if control.kind in _SWITCHES and list(given.values()) != [2]:
        yield CONTROL_VALUES.at(
            model.place(*path),
            found=f"{_kind_name(control.kind)} with {values}",
            expected=f"one of {', '.join(_VALUES)}, with two values",
            remedy="write for example fp32_false_true: [ 0, 1 ]",
        )
    elif control.kind == _Control.CONTROL_SEQUENCE_CORRID and (given or type_name(control.data_type) not in _IDS):
        yield CORRELATION.at(
            model.place(*path),
            found=f"{_kind_name(control.kind)} with {values} and {type_name(control.data_type)}",
            expected=f"only a data_type: {', '.join(_IDS)}",
            remedy="set data_type: TYPE_UINT64",
        )


def _check_states(model: Model, batching: Any) -> Iterator[Finding]:
    named: set[str] = set()
    for number, state in enumerate(batching.state):
        path = ("sequence_batching", "state", number)
        if len(state.initial_state) > 1:
            yield INITIAL_COUNT.at(
                model.place(*path, "initial_state", 1),
                found=f"{len(state.initial_state)} initial states for '{state.input_name}'",
                expected="at most one",
                remedy="keep one",
            )
        elif state.initial_state:
            yield from _check_initial(model, state, named, (*path, "initial_state"))
        if state.use_growable_memory and not (state.use_same_buffer_for_input_output and _on_gpu(model)):
            yield GROWABLE.at(
                model.place(*path, "use_growable_memory"),
                found=f"use_growable_memory for state '{state.input_name}'",
                expected="use_same_buffer_for_input_output: true, and instances of KIND_GPU",
                remedy="set both, or remove use_growable_memory",
            )


def _on_gpu(model: Model) -> bool:
    groups = model.config.instance_group
    return bool(groups) and all(group.kind == ModelInstanceGroup.KIND_GPU for group in groups)


def _check_initial(model: Model, state: Any, named: set[str], path: tuple[str | int, ...]) -> Iterator[Finding]:
    initial, who, place = state.initial_state[0], f"initial state of '{state.input_name}'", model.place(*path)
    if initial.data_type != state.data_type:
        yield INITIAL_TYPE.at(
            place,
            found=f"{who} is {type_name(initial.data_type)}",
            expected=type_name(state.data_type),
            remedy="give both the same data_type",
        )
    if not initial.name or state.input_name in named:
        yield INITIAL_NAME.at(
            place,
            found=f"another {who}" if initial.name else f"{who} has no name",
            expected="a name, and one initial state per input_name",
            remedy="name it, or remove one of them",
        )
    named.add(state.input_name)
    if min(initial.dims, default=0) < 0 or not fits(state.dims, initial.dims):
        yield INITIAL_DIMS.at(
            place,
            found=f"{who} has dims {list(initial.dims)}",
            expected=f"the state's dims {list(state.dims)}, with a size for each -1",
            remedy="correct the dims",
        )
    elif problem := _data_problem(model, initial):
        yield INITIAL_DATA.at(
            place,
            found=f"{who} {problem}",
            expected=f"zero_data: true, or a data_file in {model.name}/{_STATE_FOLDER}/",
            remedy="add zero_data: true, or the file",
        )


def _data_problem(model: Model, initial: Any) -> str:
    """What is wrong with an initial state's data; empty if nothing is."""
    source = initial.WhichOneof("state_data")
    if source is None:
        return "has no data"
    if source == "zero_data":
        return ""
    problem = file_problem(model.folder / _STATE_FOLDER, initial.data_file, initial)
    return f"cannot be read: {problem}" if problem else ""
