"""Bind the tensors of a config to the arguments and results of `forward`, by the rules of NVIDIA's libtorch backend.

Pure functions of the model's config (as JSON) and the TorchScript schema, so that tests need no server. The backend's
documentation states the rules under "naming convention":
https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/pytorch_backend/README.html
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Triton's name of a data type → torch's. The libtorch backend lacks BF16 and unsigned types above 8 bits.
TORCH_DTYPES = {
    "TYPE_BOOL": "bool",
    "TYPE_UINT8": "uint8",
    "TYPE_INT8": "int8",
    "TYPE_INT16": "int16",
    "TYPE_INT32": "int32",
    "TYPE_INT64": "int64",
    "TYPE_FP16": "float16",
    "TYPE_FP32": "float32",
    "TYPE_FP64": "float64",
}
STRING = "TYPE_STRING"
INDEXED = re.compile(r".*?__(\d+)")


class BindingError(ValueError):
    """The config and the TorchScript file do not match; Triton refuses to load the model."""


@dataclass(frozen=True)
class Argument:
    """An argument of `forward`: its name and torch's kind of its type ("TensorType", "ListType", …)."""

    name: str
    kind: str


@dataclass(frozen=True)
class Inputs:
    """Input names in the order of `forward`'s arguments, or the keys of its only Dict argument."""

    names: tuple[str, ...]
    strings: frozenset[str]
    as_dict: bool


@dataclass(frozen=True)
class Output:
    """An output: its name, its position in what `forward` returns, and its torch dtype (None for a List[str])."""

    name: str
    index: int
    dtype: str | None


def arguments_of(forward: Any) -> list[Argument]:
    """The arguments of a ScriptMethod, without self."""
    every = forward.schema.arguments
    return [Argument(each.name, each.type.kind()) for each in every if each.type.kind() != "ClassType"]


def bind_inputs(config: dict[str, Any], arguments: Sequence[Argument]) -> Inputs:
    """Put the config's inputs into the order of `forward`'s arguments.

    Raises:
        BindingError: counts, kinds, data types or indices do not match.
    """
    tensors = config.get("input", [])
    controls = _control_names(config)
    for tensor in tensors:
        check_type(tensor, "input", config)
    names = [tensor["name"] for tensor in tensors] + controls
    strings = frozenset(tensor["name"] for tensor in tensors if tensor["data_type"] == STRING)
    if [argument.kind for argument in arguments] == ["DictType"]:
        return Inputs(tuple(names), strings, as_dict=True)
    _check_arguments(config["name"], arguments, len(names))
    return Inputs(order(names, [argument.name for argument in arguments]), strings, as_dict=False)


def _check_arguments(model: str, arguments: Sequence[Argument], expected: int) -> None:
    """Refuse a `forward` that libtorch cannot call: with arguments other than tensors, or another number of them."""
    for argument in arguments:
        if argument.kind not in ("TensorType", "ListType"):
            raise BindingError(
                f"An input of type '{argument.kind}' was detected in the model (argument '{argument.name}'). "
                "Only a single input of type Dict(str, Tensor) or input(s) of type Tensor are supported."
            )
    if len(arguments) != expected:
        raise BindingError(
            f"unable to load model '{model}', configuration expects {expected} inputs, model provides {len(arguments)}"
        )


def order(names: Sequence[str], arguments: Sequence[str]) -> tuple[str, ...]:
    """Sort input names by argument if all are arguments, else by `__<index>` if all have one, else not at all.

    Raises:
        BindingError: the indices are not 0, 1, 2, …, each once.
    """
    if all(name in arguments for name in names):
        return tuple(sorted(names, key=list(arguments).index))
    positions = indices(names)
    if positions is None:
        return tuple(names)
    if sorted(positions) != list(range(len(names))):
        raise BindingError(
            f"inputs {', '.join(names)}: expected the indices 0 to {len(names) - 1} after '__', each once; "
            f"forward takes ({', '.join(arguments)})"
        )
    return tuple(name for _, name in sorted(zip(positions, names, strict=True)))


def indices(names: Sequence[str]) -> list[int] | None:
    """The numbers after `__` in the names, or None if a name has none."""
    matches = [INDEXED.fullmatch(name) for name in names]
    return [int(match[1]) for match in matches if match] if all(matches) else None


def bind_outputs(config: dict[str, Any]) -> tuple[Output, ...]:
    """Find each output's position in what `forward` returns: by `__<index>` if all have one, else by order.

    Raises:
        BindingError: there is no output, or torch lacks its data type.
    """
    tensors = config.get("output", [])
    if not tensors:
        raise BindingError("model configuration must contain at least one output, none were specified.")
    for tensor in tensors:
        check_type(tensor, "output", config)
    names = [tensor["name"] for tensor in tensors]
    positions = indices(names) or list(range(len(names)))
    return tuple(
        Output(tensor["name"], position, TORCH_DTYPES.get(tensor["data_type"]))
        for tensor, position in zip(tensors, positions, strict=True)
    )


def check_type(tensor: dict[str, Any], role: str, config: dict[str, Any]) -> None:
    """Raise BindingError for a data type that torch lacks, or strings of more than one dimension."""
    name, dtype = tensor["name"], tensor.get("data_type", "TYPE_INVALID")
    if dtype not in TORCH_DTYPES and dtype != STRING:
        raise BindingError(
            f"unsupported datatype {dtype} for {role} '{name}' for model '{config['name']}'; "
            f"supported: {', '.join(TORCH_DTYPES)}, {STRING}"
        )
    # The JSON of a config leaves out what is empty.
    dims = tensor["reshape"].get("shape", []) if "reshape" in tensor else tensor["dims"]
    if dtype == STRING and len(dims) + (config.get("max_batch_size", 0) > 0) > 1:
        raise BindingError(
            f"Triton only supports 1 dimensional List of String as {role} for '{name}' "
            f"for model '{config['name']}'; set max_batch_size to 0"
        )


def _control_names(config: dict[str, Any]) -> list[str]:
    """The names of the sequence batcher's control tensors, which must end in `__<index>`."""
    batching = config.get("sequence_batching", {})
    # Triton keeps no state for Python-based backends: the model would get the initial state forever.
    if batching.get("state"):
        raise BindingError(
            f"model '{config['name']}' asks for implicit state (sequence_batching.state), which Python-based "
            "backends cannot keep; serve it with the native backend or NVIDIA's container"
        )
    names = [control["name"] for control in batching.get("control_input", [])]
    for name in names:
        if not INDEXED.fullmatch(name):
            raise BindingError(f"input '{name}' does not follow <name>__<index> naming convention.")
    return names
