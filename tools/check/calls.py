"""Calls of a TorchScript file with made-up input that its config admits, as the server would make them.

Sequences' control tensors and states are inputs too. Dims are those after `reshape`, which is what `forward` gets.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import prod
from typing import Any

import torch
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig

from clients.contract import TensorSpec
from tools import torchscript
from tools.backends.pytorch import binding
from tools.check.torchscript import bound_config
from tools.contract import Value, example_value
from tools.export.agreement import ProofError, check_output, last_line
from tools.repository import as_triton_json

# Sizes to try for dims of -1 that no warm-up request gives: of texts, images and audio.
SIZES = (8, 32, 64, 224, 1024, 16000)
# Made-up values: random ones (None), and those that lengths, indices and logarithms can take.
_FILLS = (None, 1, 0)
_LARGEST = 2**24  # Elements of a made-up tensor.
_CONTROL_TYPES = {"int32_false_true": "INT32", "fp32_false_true": "FP32", "bool_false_true": "BOOL"}


class CallError(Exception):
    """The file fails on made-up input; the message says how."""


@dataclass(frozen=True)
class Callable:
    """A file and its config, whose tensors fit the arguments of `forward`."""

    config: ModelConfig
    module: torch.jit.ScriptModule

    @cached_property
    def inputs(self) -> binding.Inputs:
        """The tensors in the order of the arguments; BindingError if they do not fit."""
        return binding.bind_inputs(bound_config(self.config), binding.arguments_of(self.module.forward))

    @cached_property
    def specs(self) -> list[TensorSpec]:
        """What `forward` gets, without the batch; a warm-up request gives sizes that the config leaves variable."""
        known = {spec.name: spec for spec in _specs(self.config)}
        for sample in self.config.model_warmup:
            for spec in [known[name] for name in sample.inputs if name in known and -1 in known[name].dims]:
                known[spec.name] = replace(spec, dims=tuple(sample.inputs[spec.name].dims))
        return [known[name] for name in self.inputs.names]

    @property
    def is_open(self) -> bool:
        """Whether dims are variable."""
        return any(-1 in spec.dims for spec in self.specs)

    def first_answer(self, batch: int, sizes: Sequence[int] = SIZES) -> tuple[int, tuple[Any, ...]]:
        """The first size for dims of -1 that `forward` takes, and what it returns; CallError, of the first, if none.

        Args:
            batch: 0 for no batch dimension.
            sizes: to try.
        """
        first: CallError | None = None
        for size, fill in product(sizes if self.is_open else sizes[:1], _FILLS):
            try:
                return size, self._answer(size, fill, batch)
            except CallError as error:
                first = first or error
        assert first
        raise first

    def _answer(self, size: int, fill: int | None, batch: int) -> tuple[Any, ...]:
        specs = [replace(spec, dims=tuple(size if dim < 0 else dim for dim in spec.dims)) for spec in self.specs]
        if any(max(batch, 1) * prod(spec.dims) > _LARGEST for spec in specs):
            raise CallError("made-up input would be too large")
        values = [_made_up(spec, batch, fill) for spec in specs]
        arguments = [dict(zip(self.inputs.names, values, strict=True))] if self.inputs.as_dict else values
        try:
            return torchscript.outputs(self.module, *arguments)
        except Exception as error:  # Whatever a network raises.
            shapes = ", ".join(f"{spec.datatype} {[batch] * (batch > 0) + list(spec.dims)}" for spec in specs)
            raise CallError(f"forward fails on {shapes}: {last_line(error)}") from error

    def problems(self, returned: Sequence[Any], batch: int) -> Iterator[str]:
        """What the server, or its client, would have against an answer."""
        outputs = {output.name: output.index for output in binding.bind_outputs(as_triton_json(self.config))}
        states = self.config.sequence_batching.state
        outputs |= {state.output_name: (binding.indices([state.output_name]) or [0])[0] for state in states}
        for spec in _result_specs(self.config):
            if (index := outputs[spec.name]) >= len(returned):
                yield f"{spec.name} has index {index}, and forward returns {len(returned)}"
                continue
            try:
                check_output(spec, returned[index], batch)
            except ProofError as error:
                yield str(error)


def _dims(tensor: Any) -> tuple[int, ...]:
    return tuple(tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims)


def _specs(config: ModelConfig) -> Iterator[TensorSpec]:
    for tensor in config.input:
        yield TensorSpec(tensor.name, _datatype(tensor), _dims(tensor))
    for control in config.sequence_batching.control_input:
        given = [
            _CONTROL_TYPES[field.name] for field, _ in control.control[0].ListFields() if field.name in _CONTROL_TYPES
        ]
        yield TensorSpec(control.name, given[0] if given else _datatype(control.control[0]), (1,))
    for state in config.sequence_batching.state:
        yield TensorSpec(state.input_name, _datatype(state), tuple(state.dims))


def _result_specs(config: ModelConfig) -> Iterator[TensorSpec]:
    for tensor in config.output:
        yield TensorSpec(tensor.name, _datatype(tensor), _dims(tensor))
    for state in config.sequence_batching.state:
        yield TensorSpec(state.output_name, _datatype(state), tuple(state.dims))


def _datatype(tensor: Any) -> str:
    return str(DataType.Name(tensor.data_type)).removeprefix("TYPE_")


def _made_up(spec: TensorSpec, batch: int, fill: int | None) -> Value:
    generator = torch.Generator().manual_seed(batch)
    if spec.datatype == "STRING":  # One dimension, which may be the batch.
        return example_value(replace(spec, dims=spec.dims or (batch,)), 0, generator)
    value = example_value(spec, batch, generator)
    return value if fill is None or isinstance(value, list) else torch.full_like(value, fill)
