"""Constant load on a server while something happens to it, and a count of the requests that failed."""

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


@contextmanager
def constant_load(connection: Connection, model: str, inputs: Mapping[str, Array], callers: int) -> Iterator[Calls]:
    """Keep one request of each caller in flight for as long as the block lasts.

    They send rows of `inputs`, [rows, …] by input name, one at a time, over and over. The connection must not retry,
    or a failed request would not be seen.
    """
    calls, stop = Calls(), threading.Event()
    places = itertools.cycle(range(len(next(iter(inputs.values())))))
    rows = ({name: array[place : place + 1] for name, array in inputs.items()} for place in places)

    async def call() -> None:
        async with AsyncClient(connection) as client:
            while not stop.is_set():
                try:
                    await client.infer(model, next(rows))
                    calls.answered += 1
                except ClientError as error:
                    calls.failures.append(str(error))
                    await asyncio.sleep(0.01)

    async def call_all() -> None:
        await asyncio.gather(*(call() for _ in range(callers)))

    thread = threading.Thread(target=lambda: asyncio.run(call_all()))
    thread.start()
    try:
        yield calls
    finally:
        stop.set()
        thread.join()
