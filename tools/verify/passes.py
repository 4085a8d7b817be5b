"""Held-out rows sent through a server in many ways: each protocol, several batch sizes and levels of concurrency.

Each way sends its own stretch of the rows, so that every protocol carries the whole set, and the same few common rows:
those are seen alone, among other rows of their request, and among other callers' requests.
"""

import asyncio
import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clients.aio import AsyncClient
from clients.connection import PROTOCOLS, Connection, Protocol
from clients.contract import Array
from clients.statistics import counted

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Effort:
    """How much is sent, and how.

    Attributes:
        sizes: batch sizes; one above the model's max_batch_size becomes that.
        concurrencies: requests in flight at once.
        limit: rows of the held-out set at most; None for all.
    """

    protocols: Sequence[Protocol] = PROTOCOLS
    sizes: Sequence[int] = (1, 5, 16)
    concurrencies: Sequence[int] = (1, 8, 32)
    limit: int | None = None


@dataclass(frozen=True)
class Way:
    """How rows are sent: `size` of them per request (0: a bare row, for a model that takes no batches)."""

    protocol: Protocol
    size: int
    concurrency: int

    def __str__(self) -> str:
        return f"{self.protocol}, batch {self.size}, {self.concurrency} at once"


@dataclass(frozen=True)
class Pass:
    """Rows sent one way, and their answers.

    Attributes:
        rows: indices into the held-out set, int64 [sent].
        outputs: the answers, [sent, …] by output name.
        batch: rows that the server computed together, on average; None where it does not count them.
    """

    way: Way
    rows: Rows
    outputs: Mapping[str, Array]
    batch: float | None


def ways(effort: Effort, max_batch_size: int) -> list[Way]:
    """List all combinations of protocol, batch size and concurrency that a model takes."""
    sizes = sorted({min(size, max_batch_size) for size in effort.sizes}) if max_batch_size else [0]
    return [Way(*way) for way in itertools.product(effort.protocols, sizes, sorted(effort.concurrencies))]


def common_rows(count: int) -> Rows:
    """Choose the rows that are sent in every way, at most 32, spread evenly over a set of `count`."""
    return np.unique(np.linspace(0, count - 1, min(32, count)).astype(np.int64))


def assign_rows(ways: Sequence[Way], count: int) -> list[Rows]:
    """Choose what each way sends: the ways of a protocol share the set, and repeat one that is too small for them.

    The common rows stand at random places among the others.
    """
    random, starts, assigned = np.random.default_rng(0), Counter[Protocol](), []
    for way in ways:
        share = math.ceil(count / sum(other.protocol == way.protocol for other in ways))
        start = starts[way.protocol]
        starts[way.protocol] += share
        # At least as many as can be in flight at once.
        own = np.arange(start, start + max(share, max(way.size, 1) * way.concurrency)) % count
        assigned.append(random.permutation(np.concatenate([own, common_rows(count)])))
    return assigned


async def send(
    connection: Connection, model: str, way: Way, inputs: Mapping[str, Array], rows: Rows, batching: str | None = None
) -> Pass:
    """Send some rows of `inputs`, [rows, …] by input name, one way, and gather the answers in their order.

    Batches are counted of the model, or of `batching`: an ensemble forms none, its classifier does.
    """
    parts: dict[int, dict[str, Array]] = {}
    step = max(way.size, 1)
    starts = iter(range(0, len(rows), step))
    async with AsyncClient(connection) as client:

        async def work() -> None:
            for start in starts:
                chosen = rows[start : start + step]
                request = {name: array[chosen] if way.size else array[chosen[0]] for name, array in inputs.items()}
                outputs = await client.infer(model, request)
                parts[start] = outputs if way.size else {name: array[None] for name, array in outputs.items()}

        await client.contract(model)  # Fetched once, before all workers need it.
        before = await _counters(client, batching or model)
        await asyncio.gather(*(work() for _ in range(way.concurrency)))
        inferences, executions = await _counters(client, batching or model) - before
    ordered = [parts[start] for start in sorted(parts)]
    outputs = {name: np.concatenate([part[name] for part in ordered]) for name in ordered[0]}
    return Pass(way, rows, outputs, float(inferences / executions) if executions else None)


async def _counters(client: AsyncClient, model: str) -> Rows:
    # Inferences and executions of all versions of a model so far.
    versions = [counted(version) for version in await client.statistics(model)]
    totals = sum(each.inferences for each in versions), sum(each.executions for each in versions)
    return np.array(totals, np.int64)
