"""Replicas with a new version beside replicas without it: the same rows sent to both at once, and what that shows.

The tests are those of a trial on live traffic: does the version answer, does it agree, and does it take no longer?
"""

import asyncio
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import numpy as np

from clients import connection
from clients.aio import AsyncClient
from clients.connection import Protocol
from clients.contract import Array
from clients.errors import ClientError
from clients.router.trial import Terms, Trial
from tools.versions.replicas import Replica

_PATIENCE_S = 10.0
_SILENCE_S = 30.0  # of the others: one that is started anew may be back
_PAUSE_S = 0.05  # after a pair that says nothing


@dataclass(frozen=True)
class Answered:
    """What came of a request, in the form that a trial compares."""

    protocol: connection.Protocol
    good: bool
    seconds: float
    output: Array

    def first_output(self) -> Array:
        """The first output."""
        return self.output


@dataclass(frozen=True)
class Comparison:
    """How new replicas are compared with others.

    Attributes:
        terms: what is acceptable; its candidate is the model itself.
        inputs: rows to send, by input name.
        protocols: the ways by which they are sent, all at a time.
        timeout_s: for a decision.
    """

    terms: Terms
    inputs: Mapping[str, Array]
    protocols: Sequence[Protocol]
    timeout_s: float

    def of(self, replicas: Sequence[Replica], others: Sequence[Replica]) -> list[Trial]:
        """A trial of each replica, against all others in turn.

        Each ends with a decision, at the timeout, or when the others have not answered for some seconds.
        """

        async def hold() -> list[Trial]:
            return await asyncio.gather(*(self._hold(replica, others) for replica in replicas))

        return asyncio.run(hold())

    async def _hold(self, replica: Replica, others: Sequence[Replica]) -> Trial:
        trial, rows, told = Trial(self.terms), self._rows(), time.monotonic()
        deadline = told + self.timeout_s
        async with AsyncExitStack() as stack:

            async def opened(each: Replica, protocol: Protocol) -> AsyncClient:
                return await stack.enter_async_context(AsyncClient(each.connection(protocol, _PATIENCE_S, retries=0)))

            async def send(protocol: Protocol) -> None:
                nonlocal told
                client = await opened(replica, protocol)
                for other in itertools.cycle([await opened(each, protocol) for each in others]):
                    if trial.decision or time.monotonic() > min(deadline, told + _SILENCE_S):
                        return
                    row, before = next(rows), trial.pairs
                    trial.compare(*await asyncio.gather(self._ask(other, row), self._ask(client, row)))
                    if trial.pairs > before:
                        told = time.monotonic()
                    await asyncio.sleep(0 if trial.pairs > before else _PAUSE_S)

            await asyncio.gather(*map(send, self.protocols))
        return trial

    async def _ask(self, client: AsyncClient, row: Mapping[str, Array]) -> Answered:
        protocol, began = client.connection.protocol, time.monotonic()
        try:
            batched = (await client.contract(self.terms.model)).batched
            inputs = dict(row) if batched else {name: array[0] for name, array in row.items()}
            began = time.monotonic()
            outputs = await client.infer(self.terms.model, inputs)
        except ClientError:
            return Answered(protocol, False, time.monotonic() - began, np.empty(0))
        return Answered(protocol, True, time.monotonic() - began, next(iter(outputs.values())))

    def _rows(self) -> Iterator[dict[str, Array]]:
        count = len(next(iter(self.inputs.values())))
        for place in itertools.cycle(range(count)):
            yield {name: array[place : place + 1] for name, array in self.inputs.items()}
