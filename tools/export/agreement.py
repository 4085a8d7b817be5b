"""What two answers must share, or an answer and config.pbtxt: shapes, dtypes, values, and independent rows.

`tools.export.proof` compares a TorchScript file with the eager network; `tools.new.trial` checks a network alone.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from clients.contract import TensorSpec, fits
from clients.errors import ToolError
from tools.contract import Value, torch_dtype

# Freezing may reorder additions: float32 sums then differ in their last bits.
TOLERANCE = 1e-5
# Kernels for one row and for many add in different orders, so this is wider; rows that mix differ by far more.
BATCH_TOLERANCE = 1e-3


class ProofError(ToolError):
    """The model must not be served; the message says what was expected and what came."""

    exit_code = 1


class UnservableError(ProofError):
    """The network cannot be served, with or without batches, so that there is no point in trying the other way."""


class DependentRowsError(ProofError):
    """A row's answer depends on what it shares a batch with, which may be another caller's."""

    def __init__(self, output: str, where: str, alone: Value, together: Value, tolerance: float):
        shapes = describe(alone), describe(together)
        differs = f"it is {shapes[0]} alone and {shapes[1]} together"
        if shapes[0] == shapes[1]:
            differs = f"it differs by {distance(alone, together):g} ({_limit(tolerance)})"
        super().__init__(
            f"{output}: a row's answer depends on its batch: {differs} {where}; set max_batch_size to 0, or make rows "
            "independent"
        )


def describe(value: Value) -> str:
    """Format shape and dtype for a message."""
    return f"[{len(value)}] of str" if isinstance(value, list) else f"{list(value.shape)} {value.dtype}"


def _limit(tolerance: float) -> str:
    # Quantized networks round by the largest value in a batch, which may be fine.
    return f"limit {tolerance:g}; --tolerance of tools.new, tolerance in a recipe, set another"


def last_line(error: BaseException) -> str:
    """The line in which torch, after its stack traces, says what happened."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def distance(expected: Value, actual: Value) -> float:
    """Largest absolute difference of two values of one shape; for texts 0 if equal, else infinity."""
    if isinstance(expected, list) or isinstance(actual, list):
        return 0.0 if expected == actual else float("inf")
    return float((expected.double() - actual.double()).abs().max()) if expected.numel() else 0.0


def is_close(expected: Value, actual: Value, tolerance: float) -> bool:
    """Whether two values are equal up to a relative and absolute tolerance, and in shape; NaN equals NaN."""
    if describe(expected) != describe(actual):
        return False
    if isinstance(expected, list) or isinstance(actual, list):
        return expected == actual
    return torch.allclose(expected.double(), actual.double(), rtol=tolerance, atol=tolerance, equal_nan=True)


def check_output(spec: TensorSpec, value: Any, batch: int) -> None:
    """Raise ProofError unless an output has the dtype and shape of config.pbtxt; batch 0 for no batch dimension."""
    is_text = isinstance(value, list) and all(isinstance(item, str) for item in value)
    is_typed = isinstance(value, Tensor) and spec.datatype != "STRING" and value.dtype == torch_dtype(spec)
    if not (is_text if spec.datatype == "STRING" else is_typed):
        raise ProofError(f"{spec.name}: config.pbtxt says {spec.datatype}, the model returns {_type_of(value)}")
    shape, expected = [len(value)] if is_text else list(value.shape), [batch] * (batch > 0) + list(spec.dims)
    if not fits(expected, shape):
        raise ProofError(f"{spec.name}: config.pbtxt says {expected} at batch {batch}, the model returns {shape}")


def _type_of(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {', '.join(sorted({type(item).__name__ for item in value})) or 'nothing'}"
    if isinstance(value, Tensor):
        return str(value.dtype)
    return "nothing" if value is None else f"a {type(value).__name__}"


def check_close(spec: TensorSpec, expected: Value, actual: Value, batch: int, tolerance: float = TOLERANCE) -> float:
    """Raise ProofError unless TorchScript's output equals eager's up to rounding; returns the largest difference."""
    if describe(expected) != describe(actual):
        raise ProofError(
            f"{spec.name}: TorchScript returns {describe(actual)} at batch {batch}, eager {describe(expected)}"
        )
    worst = distance(expected, actual)
    if not is_close(expected, actual, tolerance):
        raise ProofError(
            f"{spec.name}: TorchScript differs from eager by {worst:g} at batch {batch} ({_limit(tolerance)})"
        )
    return worst


def check_rows_independent(
    outputs: Sequence[TensorSpec], alone: Sequence[Value], together: Sequence[Value], batch: int, tolerance: float
) -> None:
    """Raise ProofError unless a row gets the same answer alone as in a batch, where it may meet another's requests."""
    for spec, expected, row in zip(outputs, alone, together, strict=True):
        if not is_close(expected, row, tolerance):
            raise DependentRowsError(spec.name, f"between a batch of 1 and one of {batch}", expected, row, tolerance)
