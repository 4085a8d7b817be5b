"""A model's contract as config.pbtxt states it, in the form that clients get from a running server.

Training and export read shapes, data types and normalization from here and never repeat them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tritonclient.grpc.model_config_pb2 import DataType

from clients.contract import Array, Contract, TensorSpec
from tools.backends.pytorch.binding import TORCH_DTYPES
from tools.repository import REPOSITORY, RepositoryError, read_config

_VARIABLE_DIM = 8  # The size of example tensors in variable dimensions (-1).
Value = torch.Tensor | list[str]  # What `forward` takes and returns: a tensor, or the strings of a STRING tensor.


def read_contract(model: str, repository: Path = REPOSITORY) -> Contract:
    """Read the contract of a model that need not be served; RepositoryError if the config cannot be read."""

    def spec(tensor: Any) -> TensorSpec:
        return TensorSpec(tensor.name, DataType.Name(tensor.data_type).removeprefix("TYPE_"), tuple(tensor.dims))

    config = read_config(model, repository=repository)
    return Contract(
        model=model,
        versions=(),
        max_batch_size=config.max_batch_size,
        inputs=tuple(map(spec, config.input)),
        outputs=tuple(map(spec, config.output)),
        parameters={key: value.string_value for key, value in config.parameters.items()},
    )


def torch_dtype(spec: TensorSpec) -> torch.dtype:
    """The torch dtype of a tensor; RepositoryError if torch lacks the data type."""
    name = TORCH_DTYPES.get(f"TYPE_{spec.datatype}")
    if name is None:
        raise RepositoryError(f"{spec.name}: {spec.datatype} has no counterpart in torch")
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def example(spec: TensorSpec, batch: int, generator: torch.Generator) -> torch.Tensor:
    """A random tensor that fits the contract, of shape [batch, *dims], or dims for batch 0."""
    shape = [batch] * (batch > 0) + [_VARIABLE_DIM if dim < 0 else dim for dim in spec.dims]
    dtype = torch_dtype(spec)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    most = 256 if dtype == torch.uint8 else 2  # uint8 are pixels.
    return torch.randint(0, most, shape, generator=generator).to(dtype)


def example_value(spec: TensorSpec, batch: int, generator: torch.Generator) -> Value:
    """The same for any input: strings for a STRING, which is never batched."""
    if spec.datatype != "STRING":
        return example(spec, batch, generator)
    count = _VARIABLE_DIM if spec.dims[0] < 0 else spec.dims[0]
    return [f"text {int(torch.randint(0, 1000, (1,), generator=generator))}" for _ in range(count)]


def array_of(value: Value) -> Array:
    """A value as clients send or get it: texts as UTF-8."""
    if isinstance(value, list):
        return np.array([text.encode() for text in value], np.object_)
    array: Array = value.numpy()
    return array


def value_of(array: Array) -> Value:
    """What `forward` gets for an array from a client."""
    return [text.decode() for text in array] if array.dtype == np.object_ else torch.from_numpy(array)
