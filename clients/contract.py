"""A model's inputs and outputs as the server describes them, and the check of an input before it is sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from tritonclient.utils import np_to_triton_dtype

from clients.errors import InvalidInput

Array = npt.NDArray[Any]
# Arrays by input name, or the array of a model with one input.
Inputs = Array | Mapping[str, Array]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: its data type by Triton's name ("FP32"), its dims without the batch; a dim of -1 varies."""

    name: str
    datatype: str
    dims: tuple[int, ...]
    optional: bool = False


@dataclass(frozen=True)
class Contract:
    """One model's inputs, outputs and parameters.

    `max_batch_size` is 0 for a model without batches; `members` are the models that an ensemble consists of.
    """

    model: str
    versions: tuple[str, ...]
    max_batch_size: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parameters: Mapping[str, str] = field(default_factory=dict)
    members: tuple[str, ...] = ()

    @property
    def batched(self) -> bool:
        """Whether the first dimension of every tensor is the batch."""
        return self.max_batch_size > 0

    def named(self, inputs: Inputs) -> dict[str, Array]:
        """Name the inputs; a bare array is the model's only input.

        Raises:
            InvalidInput: a bare array for a model of several inputs, or what is no array.
        """
        if isinstance(inputs, Mapping):
            return {name: _array(f"{self.model} input '{name}'", array) for name, array in inputs.items()}
        if len(self.inputs) != 1:
            raise InvalidInput(
                f"{self.model} takes {len(self.inputs)} inputs ({names(self.inputs)}); pass them by name"
            )
        return {self.inputs[0].name: _array(f"{self.model} input '{self.inputs[0].name}'", inputs)}

    def check(self, inputs: Mapping[str, Array]) -> None:
        """Refuse what the server would refuse.

        Raises:
            InvalidInput: the inputs do not fit; the message says what the model takes and what it got.
        """
        known = {spec.name: spec for spec in self.inputs}
        for name in inputs.keys() - known.keys():
            raise InvalidInput(f"{self.model} has no input '{name}'; it takes {names(self.inputs)}")
        for name in {spec.name for spec in self.inputs if not spec.optional} - inputs.keys():
            raise InvalidInput(f"{self.model}: input '{name}' is missing; it takes {names(self.inputs)}")
        for name, array in inputs.items():
            self._check_tensor(known[name], array)
        sizes = {name: len(array) for name, array in inputs.items()} if self.batched else {}
        if len(set(sizes.values())) > 1:
            raise InvalidInput(f"{self.model}: inputs of different batch sizes: {sizes}")

    def _check_tensor(self, spec: TensorSpec, array: Array) -> None:
        what = f"{self.model} input '{spec.name}'"
        datatype = np_to_triton_dtype(array.dtype) or array.dtype
        if datatype != spec.datatype:
            remedy = ".astype(object)" if spec.datatype == "BYTES" else ".astype()"
            raise InvalidInput(f"{what}: expected {spec.datatype}, got {datatype}; convert with {remedy}")
        expected = (("batch",) if self.batched else ()) + spec.dims
        dims = array.shape[1:] if self.batched else array.shape
        if len(expected) != array.ndim or not fits(spec.dims, dims):
            raise InvalidInput(f"{what}: expected shape {shape(expected)}, got {shape(array.shape)}")
        if self.batched and not 1 <= len(array) <= self.max_batch_size:
            raise InvalidInput(f"{what}: expected a batch of 1 to {self.max_batch_size}, got {len(array)}; split it")


def _array(what: str, values: Any) -> Array:
    try:
        return np.asarray(values)
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"{what}: expected an array or lists of one length, got neither ({error})") from error


def names(specs: Sequence[TensorSpec]) -> str:
    """Describe tensors for a message."""
    return ", ".join(f"{spec.name} {spec.datatype} {shape(spec.dims)}" for spec in specs)


def fits(dims: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether a shape is one that dims allow; -1 among them is any size."""
    return len(dims) == len(shape) and all(dim in (-1, size) for dim, size in zip(dims, shape, strict=True))


def shape(dims: Sequence[object]) -> str:
    """Format a shape for a message."""
    return "[" + ", ".join(map(str, dims)) + "]"
