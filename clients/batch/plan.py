"""What a large inference asks of the server, decided before the first request, and what its rows depend on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from clients.batch.sources import Source
from clients.contract import Contract, names
from clients.errors import InvalidInput

# A chunk is written at once, and lost at once when the process is killed.
_CHUNK_ROWS = 256
# Without --in-flight: no more requests than this at once, nor more bytes of input among them.
IN_FLIGHT, _IN_FLIGHT_BYTES = 32, 256 * 2**20


@dataclass(frozen=True)
class Plan:
    """Which outputs of which version are kept, and how `rows` rows are cut into requests and chunks.

    Attributes:
        batch_size: rows per request.
        in_flight: requests at once.
    """

    model: str
    version: str
    outputs: tuple[str, ...]
    rows: int
    batch_size: int
    in_flight: int

    @property
    def chunk_rows(self) -> int:
        """Rows of a chunk: whole requests."""
        return -(-_CHUNK_ROWS // self.batch_size) * self.batch_size

    def chunks(self) -> list[range]:
        """The rows of each chunk."""
        return split(range(self.rows), self.chunk_rows)

    def chunk(self, index: int) -> range:
        """The rows of one chunk."""
        return range(self.rows)[index * self.chunk_rows : (index + 1) * self.chunk_rows]

    def requests(self, chunk: range) -> list[range]:
        """The rows of each request of a chunk."""
        return split(chunk, self.batch_size)


def make_plan(
    contract: Contract,
    source: Source,
    outputs: Sequence[str] | None = None,
    batch_size: int | None = None,
    in_flight: int | None = None,
) -> Plan:
    """Plan the requests of a data set, with options as `clients.batch.job.run` takes them.

    The newest of the served versions answers all of them.

    Raises:
        InvalidInput: the model has no such output, or an output has the name of another column.
    """
    size = min(batch_size or contract.max_batch_size, contract.max_batch_size) or 1
    kept = tuple(dict.fromkeys(outputs or (spec.name for spec in contract.outputs)))
    if unknown := set(kept) - {spec.name for spec in contract.outputs}:
        raise InvalidInput(f"{contract.model} has no output '{min(unknown)}'; it gives {names(contract.outputs)}")
    if taken := {source.column, "error"} & set(kept):
        raise InvalidInput(f"output '{min(taken)}' has the name of another column; name the others with --outputs")
    version = max(contract.versions, key=int, default="")
    return Plan(contract.model, version, kept, source.rows, size, in_flight or _affordable_requests(contract, size))


def _affordable_requests(contract: Contract, batch_size: int) -> int:
    """How many requests fit in the memory that they may take; a dim that varies counts as 1."""
    row_bytes = sum(
        int(np.prod([abs(dim) for dim in spec.dims])) * np.dtype(triton_to_np_dtype(spec.datatype)).itemsize
        for spec in contract.inputs
    )
    return max(2, min(IN_FLIGHT, _IN_FLIGHT_BYTES // max(row_bytes * batch_size, 1)))


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


def split(rows: range, size: int) -> list[range]:
    """Cut rows into ranges of a size; the last may be shorter."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]
