"""Held-out rows sent through a server in many ways: each protocol, several batch sizes and requests at once.

Every way takes its own stretch of the rows, so that all of them go over each protocol, and besides it the same few
rows as every other way: those are seen alone, among other rows of their request, and among other callers' requests.
"""

import asyncio
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clients.aio import AsyncClient
from clients.connection import Connection, Protocol
from clients.contract import Array
from clients.statistics import figures

Rows = npt.NDArray[np.int64]
# So many rows are sent in every way.
COMMON = 32


@dataclass(frozen=True)
class Way:
    """How rows are sent: `size` in a request (0: a bare row, for a model without batches), `concurrency` requests."""

    protocol: Protocol
    size: int
    concurrency: int

    def __str__(self) -> str:
        return f"{self.protocol}, batch {self.size}, {self.concurrency} at once"


@dataclass(frozen=True)
class Pass:
    """One way, gone.

    Attributes:
        rows: which of the held-out rows were sent, int64 [sent].
        outputs: the answers, [sent, …] by output name.
        batch: rows that the server computed together, on average; None where it does not say.
    """

    way: Way
    rows: Rows
    outputs: Mapping[str, Array]
    batch: float | None


def ways(protocols: Sequence[Protocol], sizes: Sequence[int], concurrencies: Sequence[int], most: int) -> list[Way]:
    """All combinations, without batches that the model does not take.

    Args:
        protocols: in the order in which they are gone.
        sizes: wanted batch sizes; those above `most` become `most`.
        concurrencies: requests at once.
        most: the model's max_batch_size.
    """
    possible = sorted({min(size, most) for size in sizes}) if most else [0]
    return [Way(protocol, size, many) for protocol in protocols for size in possible for many in sorted(concurrencies)]


def common_rows(rows: int) -> Rows:
    """The rows that are sent in every way, spread over the set."""
    return np.unique(np.linspace(0, rows - 1, min(COMMON, rows)).astype(np.int64))


def rows_of(ways: Sequence[Way], rows: int) -> list[Rows]:
    """What each way sends: the ways of a protocol share the set between them, and a small set is gone through again.

    The common rows stand at random places among the others.
    """
    random = np.random.default_rng(0)
    at: dict[Protocol, int] = {}
    found = []
    for way in ways:
        share = math.ceil(rows / sum(one.protocol == way.protocol for one in ways))
        # At the least all of its requests are under way at once.
        count = max(share, max(way.size, 1) * way.concurrency)
        start = at.get(way.protocol, 0)
        at[way.protocol] = start + share
        own = np.arange(start, start + count) % rows
        found.append(random.permutation(np.concatenate([own, common_rows(rows)])))
    return found


@dataclass(frozen=True)
class Target:
    """A model on a server: its name and version there, and the model whose batches are counted.

    An ensemble forms no batches; its classifier does.
    """

    model: str
    version: str
    batching: str


async def send(client: AsyncClient, target: Target, way: Way, inputs: Mapping[str, Array], rows: Rows) -> Pass:
    """Send rows and gather the answers in their order.

    Raises:
        ClientError: a request failed.
    """
    # Asked for before all at once need it.
    await client.contract(target.model, target.version)
    step = max(way.size, 1)
    parts: dict[int, dict[str, Array]] = {}
    before = await counted(client, target.batching)

    async def work(starts: Iterator[int]) -> None:
        for start in starts:
            chosen = rows[start : start + step]
            request = {name: array[chosen] if way.size else array[chosen[0]] for name, array in inputs.items()}
            outputs = await client.infer(target.model, request, version=target.version)
            parts[start] = outputs if way.size else {name: array[None] for name, array in outputs.items()}

    starts = iter(range(0, len(rows), step))
    await asyncio.gather(*(work(starts) for _ in range(way.concurrency)))
    after = await counted(client, target.batching)
    inferences, executions = after[0] - before[0], after[1] - before[1]
    ordered = [parts[start] for start in sorted(parts)]
    outputs = {name: np.concatenate([part[name] for part in ordered]) for name in ordered[0]}
    return Pass(way, rows, outputs, inferences / executions if executions else None)


async def counted(client: AsyncClient, model: str) -> tuple[int, int]:
    """Inferences and executions that the server has counted for the versions of a model."""
    found = [figures(one) for one in await client.statistics(model)]
    return sum(one["inferences"] for one in found), sum(one["executions"] for one in found)


def go(connection: Connection, target: Target, way: Way, inputs: Mapping[str, Array], rows: Rows) -> Pass:
    """Send rows one way.

    Raises:
        ClientError: a request failed.
    """

    async def ask() -> Pass:
        async with AsyncClient(connection) as client:
            return await send(client, target, way, inputs, rows)

    return asyncio.run(ask())
