"""What two answers must share, or one answer and config.pbtxt: shapes, dtypes, values, and rows that do not mix.

`tools.proving.proof` asks it of an exported file and the eager network, `tools.importing.trial` of a network alone.
"""

from collections.abc import Sequence

import torch

from clients.contract import TensorSpec
from clients.errors import ToolError
from tools.contract import Value, torch_dtype

# Freezing may reorder additions: float32 sums then differ in their last bits.
TOLERANCE = 1e-5
# The kernels for one row and for many add in different orders, so this is wider; rows that mix differ by far more.
BATCH_TOLERANCE = 1e-3


class ProofError(ToolError):
    """The exported model must not be served; the message says what differed."""

    exit_code = 1


class UnservableError(ProofError):
    """A network gives or does what cannot be served, however it is called."""


def described(value: Value) -> str:
    """Shape and dtype in words, for messages."""
    return f"[{len(value)}] of str" if isinstance(value, list) else f"{list(value.shape)} {value.dtype}"


def distance(one: Value, other: Value) -> float:
    """The largest absolute difference of two values of one shape; 0 for the same texts, infinite for others."""
    if isinstance(one, list) or isinstance(other, list):
        return 0.0 if one == other else float("inf")
    return float((one.double() - other.double()).abs().max()) if one.numel() else 0.0


def close(one: Value, other: Value, tolerance: float) -> bool:
    """Whether two values of one shape are equal up to a relative and absolute tolerance; NaN equals NaN."""
    if isinstance(one, list) or isinstance(other, list):
        return one == other
    return torch.allclose(one.double(), other.double(), rtol=tolerance, atol=tolerance, equal_nan=True)


def check_output(spec: TensorSpec, value: Value, batch: int) -> None:
    """Dtype and shape of an output are those of config.pbtxt."""
    is_text = isinstance(value, list)
    if is_text != (spec.datatype == "STRING") or (not isinstance(value, list) and value.dtype != torch_dtype(spec)):
        returned = "List[str]" if isinstance(value, list) else str(value.dtype)
        raise ProofError(f"{spec.name}: config.pbtxt says {spec.datatype}, the model returns {returned}")
    shape = [len(value)] if isinstance(value, list) else list(value.shape)
    expected = [batch] * (batch > 0) + list(spec.dims)
    fits = len(expected) == len(shape) and all(e in (-1, d) for e, d in zip(expected, shape, strict=True))
    if not fits:
        raise ProofError(f"{spec.name}: config.pbtxt says {expected} at batch {batch}, the model returns {shape}")


def check_close(spec: TensorSpec, expected: Value, found: Value, batch: int, tolerance: float = TOLERANCE) -> float:
    """Two outputs are equal up to rounding; returns their largest absolute difference."""
    if described(expected) != described(found):
        raise ProofError(
            f"{spec.name}: TorchScript returns {described(found)} at batch {batch}, eager {described(expected)}"
        )
    worst = distance(expected, found)
    if not close(expected, found, tolerance):
        raise ProofError(
            f"{spec.name}: TorchScript differs from eager by {worst:g} at batch {batch} (limit {tolerance:g})"
        )
    return worst


def check_rows_apart(
    outputs: Sequence[TensorSpec], alone: Sequence[Value], together: Sequence[Value], batch: int, tolerance: float
) -> None:
    """A row gets the same answer alone as in a batch: Triton puts the requests of different callers together."""
    for spec, one, row in zip(outputs, alone, together, strict=True):
        if not close(one, row, tolerance):
            raise ProofError(
                f"{spec.name}: a row's answer depends on its batch: it differs by {distance(one, row):g} between a "
                f"batch of 1 and one of {batch} (limit {tolerance:g}); set max_batch_size to 0, or make rows "
                "independent"
            )
