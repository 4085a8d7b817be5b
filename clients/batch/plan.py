"""The plan of a large inference: which version answers which rows, in which requests and chunks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from clients.batch.datasets import DataSet
from clients.batch.sources import Source
from clients.contract import Contract, names
from clients.errors import InvalidInput

# A chunk is written at once, and lost at once when the process is killed.
_CHUNK_ROWS = 256
# Without --in-flight: no more requests than this at once, nor more bytes of input among them.
IN_FLIGHT, _IN_FLIGHT_BYTES = 32, 256 * 2**20


@dataclass(frozen=True)
class Options:
    """What may be chosen for a run."""

    outputs: Sequence[str] | None = None  # to keep (default: all)
    batch_size: int | None = None  # rows of a request (default: as many as the model takes)
    in_flight: int | None = None  # requests at once (default: as many as fit in a fixed amount of memory)
    part_rows: int | None = None  # of each part of a folder (default: some thousand, fewer if they are large)
    fresh: bool = False  # whether an earlier run is deleted instead of resumed
    # All rows are asked of the version with which the run began. Once it is no longer served, the others are asked of
    # the newest one if this is set, and a column `version` says which was asked; else the run ends.
    mixed_versions: bool = False


@dataclass(frozen=True)
class Plan:
    """Which outputs of which version are kept, and how `rows` rows are cut into requests and chunks.

    `batch_size`, `in_flight` and `mixed_versions` are as in `Options`; `version` is the one with which the run began.
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
    contract: Contract, source: Source | DataSet, options: Options, begun: str | None = None, has_versions: bool = False
) -> Plan:
    """Plan the requests of a data set.

    Args:
        contract: the model's.
        source: the rows.
        options: what was chosen.
        begun: the version with which an earlier run began (default: the newest of those that are served).
        has_versions: whether there is a column `version` in any case.

    Raises:
        InvalidInput: the model has no such output, or an output has the name of another column.
    """
    size = min(options.batch_size or contract.max_batch_size, contract.max_batch_size) or 1
    others = {source.column, "error"} | ({"version"} if has_versions or options.mixed_versions else set())
    outputs = _kept_outputs(contract, options.outputs, others)
    version = begun or max(contract.versions, key=int, default="")
    in_flight = options.in_flight or _affordable(contract, size)
    return Plan(contract.model, version, outputs, source.rows, size, in_flight, options.mixed_versions)


def _kept_outputs(contract: Contract, wanted: Sequence[str] | None, others: set[str]) -> tuple[str, ...]:
    kept = tuple(dict.fromkeys(wanted or (spec.name for spec in contract.outputs)))
    if unknown := set(kept) - {spec.name for spec in contract.outputs}:
        raise InvalidInput(f"{contract.model} has no output '{min(unknown)}'; it gives {names(contract.outputs)}")
    if taken := others & set(kept):
        raise InvalidInput(f"output '{min(taken)}' has the name of another column; name the others with --outputs")
    return kept


def _affordable(contract: Contract, size: int) -> int:
    """How many requests of so many rows may be under way; a dim that varies counts as 1."""
    row_bytes = sum(
        math.prod(map(abs, spec.dims)) * np.dtype(triton_to_np_dtype(spec.datatype)).itemsize
        for spec in contract.inputs
    )
    return max(2, min(IN_FLIGHT, _IN_FLIGHT_BYTES // max(row_bytes * size, 1)))


def job_of(plan: Plan, source: Source | DataSet, **piece: int) -> dict[str, Any]:
    """Describe, as JSON, all that a finished row depends on: the rows of another job are other rows.

    `piece` has, by its name in the job, the number of rows that are written at once.
    """
    return {
        "model": plan.model,
        "model_version": plan.version,
        "outputs": list(plan.outputs),
        "batch_size": plan.batch_size,
        **piece,
        "rows": plan.rows,
        "input": dict(source.identity),
    }
