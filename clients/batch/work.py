"""One part of a very large inference: from its rows to its Parquet file, on whichever machine it is done."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from clients.batch.chunks import Chunk, empty_row, note_heads
from clients.batch.datasets import Kind, Segment, open_rows
from clients.batch.parts import Output, Record
from clients.batch.places import Place
from clients.batch.plan import Plan
from clients.batch.requests import REFUSED, Run
from clients.batch.servers import ask
from clients.batch.sources import Rows
from clients.batch.store import Finished
from clients.batch.tables import Table
from clients.connection import Connection
from clients.contract import Array, Contract
from clients.errors import ToolError


@dataclass(frozen=True)
class Work:
    """What is the same for all parts; a plain value, as all that a worker gets."""

    connections: tuple[Connection, ...]
    contract: Contract
    plan: Plan
    place: Place  # of the data set
    kind: Kind
    output: Output


@dataclass(frozen=True)
class Part:
    """Some rows of the data set, and if there is one, a row of another part that the server has answered."""

    index: int
    first_row: int
    segments: list[Segment]
    good: list[Segment] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many there are."""
        return sum(segment.stop - segment.start for segment in self.segments)


@dataclass(frozen=True)
class Failure:
    """Why a part could not be done; `is_refusal` if the server refused all of its rows, and the model may be well."""

    index: int
    error: ToolError
    is_refusal: bool = False


@dataclass
class _Collected:
    """The chunks of a part, in memory."""

    chunks: dict[int, Chunk] = field(default_factory=dict)
    heads: dict[str, Array] = field(default_factory=dict)
    finished: dict[int, Finished] = field(default_factory=dict)

    def add(self, index: int, chunk: Chunk) -> None:
        note_heads(self.heads, chunk)
        self.chunks[index] = chunk

    @property
    def ordered(self) -> list[Chunk]:
        return [self.chunks[index] for index in sorted(self.chunks)]


def do_part(work: Work, part: Part) -> Record | Failure:
    """Run the model on the rows of a part and write its file; what somebody else has finished meanwhile stays."""
    if finished := work.output.finished(part.index):
        return finished
    try:
        rows = open_rows(work.place, work.kind, [*part.segments, *part.good], work.contract)
        return _published(work, part, rows, asyncio.run(_answers(work, part, rows)))
    except ToolError as error:
        return Failure(part.index, error, isinstance(error, REFUSED) and not part.good)
    except OSError as error:
        return Failure(part.index, ToolError(f"part {part.index}: {error.strerror or error}"))


async def _answers(work: Work, part: Part, rows: Rows) -> _Collected:
    collected, plan = _Collected(), replace(work.plan, rows=part.rows)
    async with ask(work.connections, plan.in_flight) as client:
        good = part.rows if part.good else None
        await Run(client, plan, rows, collected, lambda count: None, good).finish()
    return collected


def _published(work: Work, part: Part, rows: Rows, collected: _Collected) -> Record:
    chunks, contract, outputs = collected.ordered, work.contract, work.plan.outputs
    heads = {name: collected.heads.get(name, empty_row(contract, name)) for name in outputs}
    varying = {spec.name: spec.dims for spec in contract.outputs if spec.name in outputs and -1 in spec.dims}

    def pieces() -> Iterator[tuple[Array, Chunk]]:
        row = 0
        for chunk in chunks:
            labels = rows.labels(range(row, row + len(chunk.errors)))
            yield (labels + part.first_row if rows.column == "row" else labels), chunk
            row += len(chunk.errors)

    good = np.concatenate([chunk.good for chunk in chunks])
    table = Table(rows.column, heads, part.rows, pieces, has_versions=True, varying=varying)
    return work.output.publish(
        table,
        index=part.index,
        first_row=part.first_row,
        rows=part.rows,
        errors=int((~good).sum()),
        versions=sorted({version for chunk in chunks for version in chunk.versions.tolist()}),
        first_good=part.first_row + int(good.argmax()) if good.any() else None,
        samples=table.first_errors(),
    )
