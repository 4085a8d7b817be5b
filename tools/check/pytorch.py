"""What NVIDIA's pytorch backend refuses: data types, naming conventions, parameters.

The conventions are those of tools/backends/pytorch/binding.py, which serves by them.
"""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from tools.backends.pytorch.binding import (
    INDEXED,
    STRING,
    TORCH_DTYPES,
    BindingError,
    bind_outputs,
    check_type,
    indices,
    order,
)
from tools.check.finding import Finding, Rule
from tools.check.served import Model
from tools.check.torchscript import arguments_of
from tools.repository import as_triton_json

IO = """input { name: "INPUT__0" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "OUTPUT__0" data_type: TYPE_FP32 dims: [ 2 ] }
"""
BASE = 'name: "model"\nbackend: "pytorch"\nmax_batch_size: 8\n' + IO

TYPE = Rule(
    "pytorch-type",
    "A data type that libtorch has no path for, or texts in more than one dimension",
    "backend",
    BASE.replace("TYPE_FP32", "TYPE_BF16", 1),
)
NO_OUTPUT = Rule(
    "pytorch-no-output", "A model of the pytorch backend has no output", "backend", BASE.replace("output", "#output")
)
INDEX = Rule(
    "pytorch-index",
    "Inputs named <name>__<index> whose indices are not 0, 1, 2, … each once",
    "backend",
    BASE.replace("INPUT__0", "INPUT__1"),
)
OUTPUT_INDEX = Rule(
    "pytorch-output-index",
    "Two outputs have one index",
    example=BASE + 'output { name: "SCORES__0" data_type: TYPE_FP32 dims: [ 2 ] }',
)
CONTROL = Rule(
    "pytorch-control-name",
    "A control or state tensor that does not follow <name>__<index>",
    "backend",
    BASE
    + 'sequence_batching { control_input { name: "START" '
    + "control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } } }",
)
STATE = Rule(
    "pytorch-state",
    "Implicit state, which the embedded server cannot keep for a pytorch model; NVIDIA's container can",
    example=BASE
    + 'sequence_batching { state { input_name: "S__1" output_name: "S__1" data_type: TYPE_FP32 dims: [ 4 ] } }',
)
FLAG = Rule(
    "pytorch-flag",
    "A switch of the pytorch backend is neither true nor false",
    "backend",
    BASE + 'parameters { key: "INFERENCE_MODE" value { string_value: "yes" } }',
)
NUMBER = Rule(
    "pytorch-threads",
    "A thread count of the pytorch backend is no whole number from 1",
    "backend",
    BASE + 'parameters { key: "INTRA_OP_THREAD_COUNT" value { string_value: "all" } }',
)
SPELLING = Rule(
    "pytorch-parameter",
    "A parameter that is spelt nearly as one of the pytorch backend, which ignores it",
    example=BASE + 'parameters { key: "INTRA_OP_THREADS_COUNT" value { string_value: "1" } }',
)
RULES = (TYPE, NO_OUTPUT, INDEX, OUTPUT_INDEX, CONTROL, STATE, FLAG, NUMBER, SPELLING)

FLAGS = (
    "DISABLE_OPTIMIZED_EXECUTION",
    "INFERENCE_MODE",
    "DISABLE_CUDNN",
    "ENABLE_CACHE_CLEANING",
    "ENABLE_WEIGHT_SHARING",
    "ENABLE_TENSOR_FUSER",
    "ENABLE_JIT_PROFILING",
    "ENABLE_JIT_EXECUTOR",
)
COUNTS = ("INTRA_OP_THREAD_COUNT", "INTER_OP_THREAD_COUNT")
SWITCH = ("true", "on", "1", "false", "off", "0")


def check(model: Model) -> Iterator[Finding]:
    """All that is wrong with a model for the pytorch backend; its config holds for Triton's core already."""
    if model.config.backend != "pytorch":
        return
    config = as_triton_json(model.config)
    types = list(check_types(model, config))
    yield from types
    if not types:
        yield from check_names(model, config)
    yield from check_sequences(model)
    yield from check_parameters(model)


def check_types(model: Model, config: dict[str, Any]) -> Iterator[Finding]:
    """Data types that torch has."""
    for role in ("input", "output"):
        for number, tensor in enumerate(config.get(role, [])):
            try:
                check_type(tensor, role, config)
            except BindingError:
                text = tensor["data_type"] == STRING
                yield TYPE.at(
                    model.place(role, number, "data_type"),
                    found=f"{role} '{tensor['name']}' is {tensor.get('data_type')}"
                    + " in batches or in more than one dimension" * text,
                    expected="texts in one dimension with max_batch_size 0" if text else ", ".join(TORCH_DTYPES),
                    remedy="use another data type, or the Python backend",
                )


def check_names(model: Model, config: dict[str, Any]) -> Iterator[Finding]:
    """Names from which arguments and results follow."""
    try:
        bind_outputs(config)
    except BindingError:
        yield NO_OUTPUT.at(model.place(), found="no output", expected="at least one", remedy="add `output [ … ]`")
    names = [tensor["name"] for tensor in config.get("input", [])]
    if not model.config.HasField("sequence_batching"):
        try:
            order(names, [argument.name for argument in arguments_of(model)])
        except BindingError:
            yield INDEX.at(
                model.place("input"),
                found=f"inputs {', '.join(names)}",
                expected=f"the indices 0 to {len(names) - 1} after '__', each once",
                remedy="number them as forward takes them",
            )
    outputs = [tensor["name"] for tensor in config.get("output", [])]
    places = indices(outputs) or []
    for number, place in enumerate(places):
        if place in places[:number]:
            yield OUTPUT_INDEX.at(
                model.place("output", number, "name"),
                found=f"output '{outputs[number]}' has the index {place} of '{outputs[places.index(place)]}'",
                expected="an index of its own",
                remedy="the number after '__' is the place in what forward returns; both get the same values",
            )


def check_sequences(model: Model) -> Iterator[Finding]:
    """Control tensors are inputs too, and are found by their index alone."""
    batching = model.config.sequence_batching
    for number, control in enumerate(batching.control_input):
        if not INDEXED.fullmatch(control.name):
            yield CONTROL.at(
                model.place("sequence_batching", 0, "control_input", number, "name"),
                found=f"control tensor '{control.name}'",
                expected=f"<name>__<index>, such as {control.name}__{len(model.config.input) + number}",
                remedy="append the place of its argument in forward",
            )
    if batching.state:
        yield STATE.at(
            model.place("sequence_batching", 0, "state"),
            found="implicit state",
            expected="none for the embedded server",
            remedy="serve this model with NVIDIA's container",
        )


def check_parameters(model: Model) -> Iterator[Finding]:
    """Parameters that the backend reads."""
    for key, value in model.config.parameters.items():
        text, place = value.string_value, model.place(f"parameters[{key}]")
        if key in FLAGS and text.lower() not in SWITCH:
            yield FLAG.at(
                place,
                found=f"{key} is '{text}'",
                expected=", ".join(SWITCH),
                remedy='set string_value: "true" or "false"',
            )
        elif key in COUNTS and not (text.isdigit() and int(text) > 0):
            yield NUMBER.at(
                place,
                found=f"{key} is '{text}'",
                expected="a whole number of at least 1",
                remedy="set the number of threads",
            )
        elif key not in (*FLAGS, *COUNTS) and (close := get_close_matches(key.upper(), (*FLAGS, *COUNTS), 1, 0.85)):
            yield SPELLING.at(
                place, found=f"parameter {key}", expected=f"{close[0]}", remedy=f"did you mean {close[0]}?"
            )
