"""What a large inference asks of the server, decided before the first request; and what its rows depend on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from clients.batch.sources import Source
from clients.contract import Contract, names
from clients.errors import InvalidInput

# A chunk is written in one go, and lost in one go when the process is killed.
CHUNK_ROWS = 256
# Without --in-flight: no more requests than this, nor more bytes of input among them.
IN_FLIGHT, IN_FLIGHT_BYTES = 32, 256 * 2**20


@dataclass(frozen=True)
class Plan:
    """What is asked of the server: `rows` rows, `batch_size` in a request, `in_flight` requests at once."""

    model: str
    version: str
    outputs: tuple[str, ...]
    rows: int
    batch_size: int
    in_flight: int

    @property
    def chunk_rows(self) -> int:
        """Rows of a chunk: whole requests."""
        return -(-CHUNK_ROWS // self.batch_size) * self.batch_size

    def chunks(self) -> list[range]:
        """The rows of each chunk."""
        return stretches(range(self.rows), self.chunk_rows)

    def chunk(self, index: int) -> range:
        """The rows of one chunk."""
        return range(self.rows)[index * self.chunk_rows : (index + 1) * self.chunk_rows]


def make_plan(
    contract: Contract, source: Source, outputs: Sequence[str] | None, batch_size: int | None, most: int | None
) -> Plan:
    """What will be asked of the server; the newest of the served versions answers every row.

    Args:
        contract: the model's.
        source: the rows.
        outputs: names of the outputs to keep (default: all).
        batch_size: rows per request; no more than the model takes, which is the default.
        most: requests at once (default: what fits in the memory that they may take).

    Raises:
        InvalidInput: the model has no such output, or it has the name of another column.
    """
    size = min(batch_size or contract.max_batch_size, contract.max_batch_size) or 1
    kept = tuple(dict.fromkeys(outputs or (spec.name for spec in contract.outputs)))
    if unknown := set(kept) - {spec.name for spec in contract.outputs}:
        raise InvalidInput(f"{contract.model} has no output '{min(unknown)}'; it gives {names(contract.outputs)}")
    if taken := {source.column, "error"} & set(kept):
        raise InvalidInput(f"output '{min(taken)}' has the name of another column; name the others with --outputs")
    version = max(contract.versions, key=int, default="")
    return Plan(contract.model, version, kept, source.rows, size, most or in_flight(contract, size))


def in_flight(contract: Contract, batch_size: int) -> int:
    """How many requests fit in the memory that they may take; a dim that varies is taken for 1."""
    row = sum(
        int(np.prod([abs(dim) for dim in spec.dims])) * np.dtype(triton_to_np_dtype(spec.datatype)).itemsize
        for spec in contract.inputs
    )
    return max(2, min(IN_FLIGHT, IN_FLIGHT_BYTES // max(row * batch_size, 1)))


def job_of(plan: Plan, source: Source) -> dict[str, Any]:
    """What a finished row depends on: rows under another job are other rows."""
    return {
        "model": plan.model,
        "model_version": plan.version,
        "outputs": list(plan.outputs),
        "batch_size": plan.batch_size,
        "chunk_rows": plan.chunk_rows,
        "rows": plan.rows,
        "input": dict(source.identity),
    }


def stretches(rows: range, size: int) -> list[range]:
    """Rows cut into stretches of a size; the last may be shorter."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]
