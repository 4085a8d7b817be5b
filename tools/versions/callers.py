"""Callers that never stop asking: constant load while something happens to a server, and a count of what failed."""

import asyncio
import itertools
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from clients.aio import AsyncClient
from clients.connection import Connection
from clients.contract import Array
from clients.errors import ClientError


@dataclass
class Calls:
    """How many requests were answered, and why the others were not."""

    answered: int = 0
    failures: list[str] = field(default_factory=list)


async def call(
    connection: Connection, model: str, rows: Iterator[dict[str, Array]], stop: threading.Event, calls: Calls
) -> None:
    """Ask with one row after the other until told to stop."""
    async with AsyncClient(connection) as client:
        for row in rows:
            if stop.is_set():
                return
            try:
                await client.infer(model, row)
            except ClientError as error:
                calls.failures.append(str(error))
                await asyncio.sleep(0.01)
            else:
                calls.answered += 1


@contextmanager
def calling(connection: Connection, model: str, inputs: Mapping[str, Array], count: int) -> Iterator[Calls]:
    """So many callers, each with one request under way, for as long as the block lasts.

    Args:
        connection: without retries, or a failed request would not be seen.
        model: what they ask for.
        inputs: rows to ask with, [rows, …] by input name, again and again.
        count: 0 for none.
    """
    calls, stop = Calls(), threading.Event()
    total = len(next(iter(inputs.values())))
    rows = ({name: array[at : at + 1] for name, array in inputs.items()} for at in itertools.cycle(range(total)))

    async def everybody() -> None:
        await asyncio.gather(*(call(connection, model, rows, stop, calls) for _ in range(count)))

    thread = threading.Thread(target=lambda: asyncio.run(everybody()))
    thread.start()
    try:
        yield calls
    finally:
        stop.set()
        thread.join()
