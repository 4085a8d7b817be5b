"""Constant load of our own during a rollout: callers over both protocols, a row of the held-out set at a time."""

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clients.aio import AsyncClient
from clients.connection import Connection
from clients.errors import ClientError
from tools.serve.router_process import RouterError
from tools.versions.candidates import serving
from tools.versions.router_control import Router

if TYPE_CHECKING:
    from tools.verify.verifier import Verifier

# They stay for so long before and after, so that both ends of the rollout are seen under load.
LINGER_SECONDS = 0.5


@dataclass
class Calls:
    """How many requests of our own callers were answered, and why the others were not."""

    answered: int = 0
    failures: list[str] = field(default_factory=list)


@contextmanager
def own_callers(count: int, model: str, verifier: "Verifier", router: Router) -> Iterator[Calls]:
    """Keep one request of each caller in flight through a router of ours, over HTTP and gRPC in turn."""
    from tools.verify.references import held_out  # It imports torch, which `--help` can do without.

    version = serving(model, verifier.repository)
    if not router.listen or not router.listen_grpc or version is None:
        raise RouterError("callers of our own need a router of our own and a version that is served")
    # Without retries, which would hide a failed request.
    ways = [Connection("http", router.listen, retries=0), Connection("grpc", router.listen_grpc, retries=0)]
    held = held_out(model, version, verifier.repository)[0]
    places = itertools.cycle(range(held.rows))
    calls, stop = Calls(), threading.Event()

    async def call(way: Connection) -> None:
        async with AsyncClient(way) as client:
            while not stop.is_set():
                place = next(places)
                try:
                    await client.infer(model, {name: array[place : place + 1] for name, array in held.inputs.items()})
                    calls.answered += 1
                except ClientError as error:
                    calls.failures.append(str(error))
                    await asyncio.sleep(0.01)

    async def call_all() -> None:
        await asyncio.gather(*(call(ways[number % 2]) for number in range(count)))

    thread = threading.Thread(target=lambda: asyncio.run(call_all()))
    thread.start()
    try:
        time.sleep(LINGER_SECONDS)
        yield calls
    finally:
        stop.set()
        thread.join()
