"""What NVIDIA's pytorch backend refuses: data types, tensor names and parameters.

The naming conventions live in tools/backends/pytorch/binding.py, which the embedded server uses too.
"""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from tritonclient.grpc.model_config_pb2 import DataType

from tools.backends.pytorch import binding
from tools.backends.pytorch.binding import BindingError
from tools.backends.pytorch.parameters import COUNTS, FALSE, FLAGS, TRUE
from tools.check.finding import Finding, Rule
from tools.check.served import AOTI, Model
from tools.check.torchscript import arguments_of
from tools.repository import as_triton_json

TYPE = Rule("pytorch-type", "A data type that libtorch lacks, or strings of more than one dimension", "backend")
NO_OUTPUT = Rule("pytorch-no-output", "A model of the pytorch backend has no output", "backend")
INDEX = Rule("pytorch-index", "The indices of inputs named <name>__<index> are not 0, 1, 2, …, each once", "backend")
OUTPUT_INDEX = Rule("pytorch-output-index", "Two outputs have the same index")
CONTROL = Rule("pytorch-control-name", "A control or state tensor that does not follow <name>__<index>", "backend")
CONTROL_TYPE = Rule(
    "pytorch-control-type", "A correlation ID of a type that libtorch lacks: every request fails", level="error"
)
STATE = Rule("pytorch-state", "Implicit state, which the embedded server keeps only with its native pytorch backend")
FLAG = Rule("pytorch-flag", "A boolean parameter of the pytorch backend is neither true nor false", "backend")
NUMBER = Rule("pytorch-threads", "A thread count of the pytorch backend is not a positive integer", "backend")
SPELLING = Rule("pytorch-parameter", "A parameter spelled almost like one of the pytorch backend, which ignores it")
RULES = (TYPE, NO_OUTPUT, INDEX, OUTPUT_INDEX, CONTROL, CONTROL_TYPE, STATE, FLAG, NUMBER, SPELLING)


def check(model: Model) -> Iterator[Finding]:
    """Yield what the pytorch backend has against a model whose config Triton's core accepts."""
    if model.config.backend != "pytorch" or model.config.platform == AOTI[1]:
        return
    config = as_triton_json(model.config)
    types = list(_check_types(model, config))
    yield from types
    if not types:
        yield from _check_names(model, config)
    yield from _check_sequences(model)
    yield from _check_parameters(model)


def _check_types(model: Model, config: dict[str, Any]) -> Iterator[Finding]:
    supported = ", ".join(binding.TORCH_DTYPES)
    for role in ("input", "output"):
        for number, tensor in enumerate(config.get(role, [])):
            try:
                binding.check_type(tensor, role, config)
            except BindingError:
                is_text = tensor["data_type"] == binding.STRING
                yield TYPE.at(
                    model.place(role, number, "data_type"),
                    found=f"{role} '{tensor['name']}' is {tensor.get('data_type')}"
                    + " with a batch dimension or several dims" * is_text,
                    expected="strings of one dimension, max_batch_size 0" if is_text else f"one of {supported}",
                    remedy="use another data type, or the Python backend",
                )


def _check_names(model: Model, config: dict[str, Any]) -> Iterator[Finding]:
    try:
        binding.bind_outputs(config)
    except BindingError:
        yield NO_OUTPUT.at(model.place(), found="no output", expected="at least one", remedy="add `output [ … ]`")
    names = [tensor["name"] for tensor in config.get("input", [])]
    if not model.config.HasField("sequence_batching"):
        try:
            binding.order(names, [argument.name for argument in arguments_of(model)])
        except BindingError:
            yield INDEX.at(
                model.place("input"),
                found=f"inputs {', '.join(names)}",
                expected=f"indices 0 to {len(names) - 1} after '__', each once",
                remedy="number them in the order of forward's arguments",
            )
    outputs = [tensor["name"] for tensor in config.get("output", [])]
    positions = binding.indices(outputs) or []
    for number, position in enumerate(positions):
        if position in positions[:number]:
            yield OUTPUT_INDEX.at(
                model.place("output", number, "name"),
                found=f"output '{outputs[number]}' has index {position}, as '{outputs[positions.index(position)]}' has",
                expected="a unique index",
                remedy="the index after '__' is the position in what forward returns; both get the same values",
            )


def _check_sequences(model: Model) -> Iterator[Finding]:
    """Control tensors are arguments of forward too, and only their index says which."""
    batching, count = model.config.sequence_batching, len(model.config.input)
    for number, control in enumerate(batching.control_input):
        path = ("sequence_batching", "control_input", number)
        yield from _check_index(model, "control tensor", control.name, count + number, (*path, "name"))
        for at, kind in enumerate(control.control):
            if kind.data_type and DataType.Name(kind.data_type) not in binding.TORCH_DTYPES:
                yield CONTROL_TYPE.at(
                    model.place(*path, "control", at, "data_type"),
                    found=f"control tensor '{control.name}' is {DataType.Name(kind.data_type)}",
                    expected="TYPE_INT64 or TYPE_INT32",
                    remedy="set data_type: TYPE_INT64",
                )
    for number, state in enumerate(batching.state):
        path = ("sequence_batching", "state", number)
        index = count + len(batching.control_input) + number
        yield from _check_index(model, "state", state.input_name, index, (*path, "input_name"))
        yield from _check_index(model, "state", state.output_name, len(model.config.output), (*path, "output_name"))
        if (name := DataType.Name(state.data_type)) not in binding.TORCH_DTYPES:
            yield TYPE.at(
                model.place(*path, "data_type"),
                found=f"state '{state.input_name}' is {name}",
                expected=f"one of {', '.join(binding.TORCH_DTYPES)}",
                remedy="use another data type",
            )
    if batching.state:
        yield STATE.at(
            model.place("sequence_batching", "state"),
            found="implicit state",
            expected="none for a server with the Python-based backend",
            remedy="serve this model with the native backend, which needs a C++20 compiler, or NVIDIA's container",
        )


def _check_index(model: Model, role: str, name: str, index: int, path: tuple[str | int, ...]) -> Iterator[Finding]:
    if not binding.INDEXED.fullmatch(name):
        yield CONTROL.at(
            model.place(*path),
            found=f"{role} '{name}'",
            expected=f"<name>__<index>, such as {name}__{index}",
            remedy="append its position among forward's arguments, or among what it returns",
        )


def _check_parameters(model: Model) -> Iterator[Finding]:
    for key, value in model.config.parameters.items():
        text, place = value.string_value, model.place(f"parameters[{key}]")
        if key in FLAGS and text.lower() not in (*TRUE, *FALSE):
            yield FLAG.at(
                place,
                found=f"{key} is '{text}'",
                expected=f"one of {', '.join((*TRUE, *FALSE))}",
                remedy='set string_value: "true" or "false"',
            )
        elif key in COUNTS and not (text.isdigit() and int(text) > 0):
            yield NUMBER.at(
                place,
                found=f"{key} is '{text}'",
                expected="a positive integer",
                remedy="set the number of threads",
            )
        elif key not in (*FLAGS, *COUNTS) and (close := get_close_matches(key.upper(), (*FLAGS, *COUNTS), 1, 0.85)):
            yield SPELLING.at(place, found=f"parameter {key}", expected=close[0], remedy=f"did you mean {close[0]}?")
