"""A range of finished rows, and how answers of a model become one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from clients.contract import Array, Contract, shape
from clients.errors import InvalidInput


@dataclass(frozen=True)
class Chunk:
    """A range of finished rows."""

    errors: Array  # str [rows], why a row has no outputs; empty for a good row
    outputs: Mapping[str, Array]  # arrays [good rows, ...] by output name; texts as str; empty if no row is good
    versions: Array  # int64 [rows], the model version that was asked

    @property
    def good(self) -> Array:
        """Which rows have outputs: bool [rows]."""
        return np.asarray(self.errors == "")


def storable(array: Array) -> Array:
    """Convert an output to a dtype of numpy's own: texts to str (bytes that are no UTF-8 escaped), BF16 to float32."""
    if array.dtype == object:
        texts = [text.decode(errors="backslashreplace") for text in array.reshape(-1)]
        return np.array(texts, dtype=np.str_).reshape(array.shape)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def concatenate(parts: Sequence[Mapping[str, Array]], outputs: Sequence[str]) -> dict[str, Array]:
    """Join the outputs of several answers; empty if there is none.

    Raises:
        InvalidInput: their rows differ in shape or dtype.
    """
    parts = [part for part in parts if part]
    for name in outputs if parts else ():
        check_uniform(name, *(part[name] for part in parts))
    return {name: np.concatenate([part[name] for part in parts]) for name in outputs} if parts else {}


def join(parts: Mapping[int, Chunk], outputs: Sequence[str]) -> Chunk:
    """Join chunks in the order of their first rows, which are the keys."""
    ordered = [parts[first] for first in sorted(parts)]
    errors, versions = (np.concatenate([getattr(part, name) for part in ordered]) for name in ("errors", "versions"))
    return Chunk(errors, concatenate([part.outputs for part in ordered], outputs), versions)


def empty_row(contract: Contract, output: str) -> Array:
    """A row of an output without any good row, by the model's config; a dim that varies is 1."""
    spec = next(spec for spec in contract.outputs if spec.name == output)
    dtype = {"BYTES": np.str_, "BF16": np.float32}.get(spec.datatype) or triton_to_np_dtype(spec.datatype)
    return np.zeros((1, *(abs(dim) for dim in spec.dims)), dtype)


def note_heads(heads: dict[str, Array], chunk: Chunk) -> None:
    """Keep the first row of each output, with which the rows of every chunk have to agree.

    Raises:
        InvalidInput: those of this chunk differ in shape or dtype.
    """
    for name, array in chunk.outputs.items():
        check_uniform(name, heads.setdefault(name, array[:1]), array)


def check_uniform(name: str, *arrays: Array) -> None:
    """Refuse parts of an output that do not fit in one column; texts may differ in width.

    Raises:
        InvalidInput: the shapes of their rows or their dtypes differ.
    """
    kinds = {f"{'text' if part.dtype.kind == 'U' else part.dtype} {shape(part.shape[1:])}" for part in arrays}
    if len(kinds) > 1:
        raise InvalidInput(
            f"output '{name}' has rows of different kinds, {' and '.join(sorted(kinds)[:2])}, which make no column; "
            "name the other outputs with --outputs"
        )
