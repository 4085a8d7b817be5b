"""The plan of a large inference: which version answers which rows, in which requests and chunks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from clients.batch.sources import Numbered, Source
from clients.contract import Contract, names
from clients.errors import InvalidInput

# A chunk is written at once, and lost at once when the process is killed.
_CHUNK_ROWS = 256
# Without --in-flight: no more requests than this at once, nor more bytes of input among them.
IN_FLIGHT, _IN_FLIGHT_BYTES = 32, 256 * 2**20


@dataclass(frozen=True)
class Plan:
    """Which outputs of which version are kept, and how `rows` rows are cut into requests and chunks.

    `batch_size` counts the rows of a request, and `in_flight` the requests that are under way at once. Another version
    may be asked only with `mixed_versions`, once `version`, with which the run began, is no longer served.
    """

    model: str
    version: str
    outputs: tuple[str, ...]
    rows: int
    batch_size: int
    in_flight: int
    mixed_versions: bool = False

    @property
    def chunk_rows(self) -> int:
        """Rows of a chunk: whole requests."""
        return -(-_CHUNK_ROWS // self.batch_size) * self.batch_size

    def chunks(self) -> list[range]:
        """The rows of each chunk."""
        return _split(range(self.rows), self.chunk_rows)

    def chunk(self, index: int) -> range:
        """The rows of one chunk."""
        return range(self.rows)[index * self.chunk_rows : (index + 1) * self.chunk_rows]

    def requests(self, chunk: range) -> list[range]:
        """The rows of each request of a chunk."""
        return _split(chunk, self.batch_size)


def _split(rows: range, size: int) -> list[range]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def make_plan(
    contract: Contract,
    source: Numbered,
    outputs: Sequence[str] | None = None,
    batch_size: int | None = None,
    in_flight: int | None = None,
    begun: str | None = None,
    mixed_versions: bool = False,
) -> Plan:
    """Plan the requests of a data set, with options as `clients.batch.job.run` takes them.

    The version with which the run has `begun` answers all of them, of a new one the newest of those that are served.

    Raises:
        InvalidInput: the model has no such output, or an output has the name of another column.
    """
    size = min(batch_size or contract.max_batch_size, contract.max_batch_size) or 1
    kept = tuple(dict.fromkeys(outputs or (spec.name for spec in contract.outputs)))
    if unknown := set(kept) - {spec.name for spec in contract.outputs}:
        raise InvalidInput(f"{contract.model} has no output '{min(unknown)}'; it gives {names(contract.outputs)}")
    if taken := {source.column, "error", *(["version"] if mixed_versions else [])} & set(kept):
        raise InvalidInput(f"output '{min(taken)}' has the name of another column; name the others with --outputs")
    # A dim that varies counts as 1.
    row_bytes = sum(
        math.prod(map(abs, spec.dims)) * np.dtype(triton_to_np_dtype(spec.datatype)).itemsize
        for spec in contract.inputs
    )
    affordable = max(2, min(IN_FLIGHT, _IN_FLIGHT_BYTES // max(row_bytes * size, 1)))
    version = begun or max(contract.versions, key=int, default="")
    return Plan(contract.model, version, kept, source.rows, size, in_flight or affordable, mixed_versions)


def job_of(plan: Plan, source: Source) -> dict[str, Any]:
    """Describe, as JSON, all that a finished row depends on: the rows of another job are other rows."""
    return {
        "model": plan.model,
        "model_version": plan.version,
        "outputs": list(plan.outputs),
        "batch_size": plan.batch_size,
        "chunk_rows": plan.chunk_rows,
        "rows": plan.rows,
        "input": dict(source.identity),
    }
