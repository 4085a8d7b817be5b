"""The requests of a large inference: many under way at once, their answers put together to chunks in order.

Each worker takes the next range of rows, reads it in a thread, asks the server and puts the answer in its place; a
complete chunk goes to the store. Rows that the server refuses are asked for again at the end of a round, one by one
with nothing else under way: a server that forms batches fails all rows of a batch for one bad row.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from clients.batch.chunks import Chunk, concatenate, join, storable
from clients.batch.plan import Plan
from clients.batch.servers import Asked
from clients.batch.sources import Rows
from clients.batch.store import Finished
from clients.command import say
from clients.contract import Array
from clients.errors import ClientError, ConnectionLost, ModelNotFound, RequestRejected, ServerFailed
from clients.failures import retry_delays
from clients.output import printable

# Refused ranges that wait for the end of a round; their chunks wait in memory with them.
_MOST_REFUSED = 32
# How often a request is repeated whose connection broke: it may be what stops the server each time.
_MOST_LOST = 3
REFUSED = (RequestRejected, ServerFailed)


class VersionGone(ModelNotFound):
    """The version with which a run began is no longer served, and another one is."""


class Chunks(Protocol):
    """Where finished chunks go, and which are finished."""

    @property
    def finished(self) -> Mapping[int, Finished]:
        """By their indices."""

    def add(self, index: int, chunk: Chunk) -> None:
        """Take a chunk; it may come from any thread."""


@dataclass
class Run:
    """One run over all rows whose chunks are not finished; calls `advance` with the number of rows as it goes."""

    client: Asked
    plan: Plan
    source: Rows
    store: Chunks
    advance: Callable[[int], object]
    known_good: int | None = None  # a row that the server has answered before
    _waiting: dict[int, dict[int, Chunk]] = field(default_factory=dict)
    _refused: list[range] = field(default_factory=list)
    _version: str = ""  # that is asked

    async def finish(self) -> None:
        """Run the model on all rows that are missing.

        Raises:
            ClientError: the server failed, or the version is no longer served; finished chunks are kept.
        """
        self._version = self.plan.version
        await self._follow()
        # Once for all workers, who would each ask.
        await self.client.contract(self.plan.model, self._version)
        chunks = (rows for index, rows in enumerate(self.plan.chunks()) if index not in self.store.finished)
        missing = (rows for chunk in chunks for rows in self.plan.requests(chunk))
        while True:
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(self.plan.in_flight):
                        group.create_task(self._work(missing))
            except ExceptionGroup as failures:
                # The first one cancelled the others.
                raise failures.exceptions[0] from failures
            if not self._refused:
                return
            while self._refused:
                rows = self._refused.pop()
                await self._place(rows, await self._ask_one_by_one(rows))

    async def _work(self, missing: Iterator[range]) -> None:
        """Work until nothing is missing, or too much is refused."""
        for rows in missing:
            try:
                answer = await self._ask(rows)
            except REFUSED:
                self._refused.append(rows)
            else:
                await self._place(rows, answer)
            if len(self._refused) >= _MOST_REFUSED:
                return

    async def _ask(self, rows: range) -> Chunk:
        requests, errors = await asyncio.to_thread(self.source.load, rows)
        while True:
            version = self._version
            answers = [await self._infer(inputs) for inputs in requests]
            if version == self._version:  # Else answers of two versions would be taken for those of one.
                break
        chunk = self._chunk(errors, concatenate(answers, self.plan.outputs))
        good = [row for row, error in zip(rows, errors, strict=True) if not error]
        for name, array in chunk.outputs.items():
            if len(array) != len(good):
                wrong = f"output '{name}' has {len(array)} rows for {len(good)} rows of input"
                raise ServerFailed(f"{self.plan.model}: {wrong}")
        if good and self.known_good is None:
            self.known_good = good[0]
        return chunk

    def _chunk(self, errors: Sequence[str], outputs: Mapping[str, Array]) -> Chunk:
        return Chunk(np.array(errors, np.str_), outputs, np.full(len(errors), int(self._version or 0), np.int64))

    async def _follow(self) -> bool:
        """Whether another version is served in place of ours, which is asked from now on where that is allowed.

        Raises:
            VersionGone: it is not allowed; the message says what to choose.
        """
        plan = self.plan
        try:
            index = await self.client.models()
        except RequestRejected:  # A server may keep its index to itself.
            return False
        named = [entry for entry in index if entry["name"] == plan.model and entry.get("state") == "READY"]
        served = [str(entry["version"]) for entry in named]
        if not served or self._version in ("", *served):
            return False
        newest = max(served, key=int)
        if not plan.mixed_versions:
            raise VersionGone(
                f"version {self._version} of {plan.model}, with which this run began, is no longer served, but version "
                f"{newest} is. Choose: --mixed-versions asks it for the other rows (a column `version` says which was "
                "asked), --fresh starts again with it; or serve the old one again"
            )
        say(
            f"version {self._version} of {plan.model} is no longer served; version {newest} is asked for the other rows"
        )
        self._version = newest
        return True

    async def _infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Send one request; wait for a server that goes away for a moment, and send it again."""
        plan, retries = self.plan, self.client.connection.retries
        absent, lost = retry_delays(retries), retry_delays(min(retries, _MOST_LOST))
        while True:
            version = self._version
            try:
                contract = await self.client.contract(plan.model, version)
                outputs = await self.client.infer(plan.model, inputs, plan.outputs, version)
            except (ModelNotFound, ConnectionLost) as error:
                if isinstance(error, ModelNotFound) and (version != self._version or await self._follow()):
                    continue
                delay = next(lost if isinstance(error, ConnectionLost) else absent, None)
                if delay is None:
                    raise
                await asyncio.sleep(delay)
            else:
                return {name: storable(array if contract.batched else array[None]) for name, array in outputs.items()}

    async def _ask_one_by_one(self, rows: range) -> Chunk:
        """Ask for each of the refused rows alone; those that are refused again get the reason as their error."""
        parts: dict[int, Chunk] = {}
        failures: list[ClientError] = []
        for row in rows:
            try:
                parts[row] = await self._ask(range(row, row + 1))
            except REFUSED as error:
                failures.append(error)
                parts[row] = self._chunk([printable(str(error))], {})
        if failures:
            # If a row that was good before still is, the server works, and the rows are bad.
            if self.known_good is None:
                raise failures[0]
            await self._ask(range(self.known_good, self.known_good + 1))
        return join(parts, self.plan.outputs)

    async def _place(self, rows: range, answer: Chunk) -> None:
        """Put an answer in its place, and its chunk into the store once it is complete."""
        index = rows.start // self.plan.chunk_rows
        parts = self._waiting.setdefault(index, {})
        parts[rows.start] = answer
        self.advance(len(rows))
        if len(parts) == len(self.plan.requests(self.plan.chunk(index))):
            del self._waiting[index]
            await asyncio.to_thread(self.store.add, index, join(parts, self.plan.outputs))


def first_good_row(plan: Plan, store: Chunks) -> int | None:
    """A row that was answered in an earlier run, if any."""
    places = ((index, chunk.first_good) for index, chunk in sorted(store.finished.items()))
    return next((index * plan.chunk_rows + place for index, place in places if place is not None), None)
