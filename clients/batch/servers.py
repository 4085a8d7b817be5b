"""Several servers of one model as one client: each request goes to the one with the fewest of ours under way.

No server gets more than its share of the requests, also when others are away: that would pass an overload on.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from clients.aio import AsyncClient
from clients.connection import Connection
from clients.contract import Array, Contract
from clients.errors import ConnectionLost, InvalidInput, ModelNotFound, ServerUnavailable
from clients.failures import LONGEST_DELAY_S, retry_delays

Answer = TypeVar("Answer")
# A server that does not answer is soon left for another.
_RETRIES = 2


@dataclass(eq=False)
class _Server:
    client: AsyncClient
    under_way: int = 0
    rests_until: float = 0.0


@dataclass
class Servers:
    """Clients of several servers of the same model; the methods are those of `AsyncClient`."""

    connection: Connection
    servers: Sequence[_Server]
    share: int  # of the requests under way, at most, at each server
    _freed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def models(self) -> list[dict[str, Any]]:
        """The models of any server that answers."""
        return await self._ask(lambda client: client.models())

    async def contract(self, model: str, version: str | int = "") -> Contract:
        """The contract of a model, by any server that answers."""
        return await self._ask(lambda client: client.contract(model, version))

    async def infer(
        self, model: str, inputs: dict[str, Array], outputs: Sequence[str] | None = None, version: str | int = ""
    ) -> dict[str, Array]:
        """Run the model on any server that answers."""
        return await self._ask(lambda client: client.infer(model, inputs, outputs, version))

    async def _ask(self, send: Callable[[AsyncClient], Awaitable[Answer]]) -> Answer:
        delays = retry_delays(self.connection.retries)
        while True:
            async with self._turn() as server:
                try:
                    return await send(server.client)
                except (ServerUnavailable, ModelNotFound) as error:
                    server.rests_until = time.monotonic() + LONGEST_DELAY_S
                    delay = next(delays, None)
                    # What these mean for the run is not decided here.
                    if delay is None or isinstance(error, ConnectionLost | ModelNotFound):
                        raise
            await asyncio.sleep(delay)

    def _with_room(self) -> list[_Server]:
        now = time.monotonic()
        awake = [server for server in self.servers if server.rests_until <= now] or self.servers
        return [server for server in awake if server.under_way < self.share]

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[_Server]:
        """One of the servers for one request, once one has room; one that was away rests while there are others."""
        async with self._freed:
            await self._freed.wait_for(self._with_room)
            server = min(self._with_room(), key=lambda each: each.under_way)
            server.under_way += 1
        try:
            yield server
        finally:
            async with self._freed:
                server.under_way -= 1
                self._freed.notify()


# What the requests of a large inference go to.
Asked = AsyncClient | Servers


@asynccontextmanager
async def ask(connections: Sequence[Connection], in_flight: int) -> AsyncIterator[Asked]:
    """Open the server or servers at some addresses, which get `in_flight` requests at once among them."""
    async with AsyncExitStack() as stack:
        if len(connections) == 1:
            yield await stack.enter_async_context(AsyncClient(connections[0]))
            return
        hasty = [replace(each, retries=min(each.retries, _RETRIES)) for each in connections]
        servers = [_Server(await stack.enter_async_context(AsyncClient(each))) for each in hasty]
        yield Servers(connections[0], servers, -(-in_flight // len(servers)))


async def ask_contract(connections: Sequence[Connection], model: str) -> Contract:
    """The contract of a model, which all servers have to agree on.

    Raises:
        InvalidInput: they serve different ones.
        ClientError: one does not answer; a server that is away at the start is not about to come back.
    """
    contracts = []
    for connection in connections:
        async with AsyncClient(replace(connection, retries=min(connection.retries, _RETRIES))) as client:
            contracts.append(await client.contract(model))
    for connection, contract in zip(connections, contracts, strict=True):
        if contract != contracts[0]:
            raise InvalidInput(
                f"{model} at {connection.url} is another one than at {connections[0].url}: its versions, inputs, "
                "outputs or parameters differ; serve the same repository at both"
            )
    return contracts[0]
