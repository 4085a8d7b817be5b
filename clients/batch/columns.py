"""Rows of a table as requests: a column for each input, of numbers, texts, bytes, or lists of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from clients.batch.sources import Loaded
from clients.contract import Array, Contract, TensorSpec, names
from clients.errors import InvalidInput


@dataclass(frozen=True)
class TableRows:
    """Rows to run a model on, of a table of pyarrow with the `columns` that the inputs are read from."""

    table: Any
    columns: Mapping[str, str]
    contract: Contract
    column: str = "row"

    def labels(self, rows: range) -> Array:
        """Their numbers."""
        return np.arange(rows.start, rows.stop, dtype=np.int64)

    def load(self, rows: range) -> Loaded:
        """All rows as one request if they are alike; else each alone, and what cannot be sent has the reason."""
        try:
            return [self._inputs(rows)], [""] * len(rows)
        except InvalidInput as error:
            if len(rows) == 1:
                return [], [str(error)]
        alone = [self.load(range(row, row + 1)) for row in rows]
        return [request for requests, _ in alone for request in requests], [error for _, (error,) in alone]

    def _inputs(self, rows: range) -> dict[str, Array]:
        part = self.table.slice(rows.start, len(rows))
        specs = [spec for spec in self.contract.inputs if spec.name in self.columns]
        arrays = {spec.name: _tensor(part[self.columns[spec.name]], spec) for spec in specs}
        return arrays if self.contract.batched else {name: array[0] for name, array in arrays.items()}


def chosen_columns(present: Sequence[str], contract: Contract) -> dict[str, str]:
    """Which column each input is read from: that of its name, or the only one for a model's only input.

    Raises:
        InvalidInput: an input has no column.
    """
    if len(present) == len(contract.inputs) == 1:
        return {contract.inputs[0].name: present[0]}
    for spec in contract.inputs:
        if spec.name not in present and not spec.optional:
            raise InvalidInput(
                f"there is no column '{spec.name}', but {', '.join(present) or 'none at all'}; {contract.model} takes "
                f"{names(contract.inputs)}: name the columns like the inputs"
            )
    return {spec.name: spec.name for spec in contract.inputs if spec.name in present}


def _tensor(column: Any, spec: TensorSpec) -> Array:
    """The values of a column as the model takes them, [rows, ...].

    Raises:
        InvalidInput: one is missing or does not fit, or the rows differ in their number of values.
    """
    import pyarrow as pa
    from pyarrow import compute, types

    array = column.combine_chunks()
    array = array.storage if isinstance(array, pa.ExtensionArray) else array
    dims = [len(array)]
    while types.is_list(array.type) or types.is_large_list(array.type) or types.is_fixed_size_list(array.type):
        lengths = compute.unique(compute.list_value_length(array)).to_pylist()
        if array.null_count or len(lengths) > 1:
            raise InvalidInput(f"input '{spec.name}': a list is missing, or of another length than its neighbors")
        dims, array = [*dims, *lengths], array.flatten()
    if array.null_count:
        raise InvalidInput(f"input '{spec.name}': a value is missing")
    # A flat list has the values of any shape, in C order.
    dims = dims if len(dims) == 1 + len(spec.dims) else [len(column), *spec.dims]
    try:
        tensor = _as_taken(array.to_numpy(zero_copy_only=False), spec).reshape(dims)
    except ValueError as error:
        raise InvalidInput(f"input '{spec.name}': expected {names([spec])}, got {column.type} ({error})") from error
    if any(wanted not in (-1, dim) for wanted, dim in zip(spec.dims, tensor.shape[1:], strict=True)):
        raise InvalidInput(f"input '{spec.name}': expected {names([spec])}, got {list(tensor.shape[1:])}")
    return tensor


def _as_taken(values: Array, spec: TensorSpec) -> Array:
    """Values in the dtype of an input; ValueError if that would change what they are, beyond a float's precision."""
    dtype = triton_to_np_dtype(spec.datatype)
    if values.dtype == dtype or (dtype == np.object_ and values.dtype.kind in "OSU"):
        return values
    if values.dtype.kind not in "iuf" or np.dtype(dtype).kind not in "iuf":
        raise ValueError(f"{values.dtype} is no {spec.datatype}")
    with np.errstate(invalid="ignore", over="ignore"):
        cast = values.astype(dtype)
    if np.dtype(dtype).kind in "iu" and (cast != values).any():
        raise ValueError(f"a value is no {spec.datatype}")
    return cast
