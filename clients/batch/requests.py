"""The requests of a large inference: a plan, many under way at once, their answers put together to chunks in order.

Each worker takes the next range of rows, reads it in a thread, asks the server and puts the answer in its place; a
complete chunk goes to the store. Rows that the server refuses are asked for again at the end of a round, one by one
with nothing else under way: a server that forms batches fails all rows of a batch for one bad row.
"""

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from clients.aio import AsyncClient
from clients.batch.chunks import Chunk, Store, check_uniform
from clients.batch.sources import Source
from clients.contract import Array, Contract, names
from clients.errors import ClientError, ConnectionLost, InvalidInput, ModelNotFound, RequestRejected, ServerFailed
from clients.failures import retry_delays

# A chunk is written at once, and lost at once when the process is killed.
_CHUNK_ROWS = 256
# Without --in-flight: no more requests than this at once, nor more bytes of input among them.
IN_FLIGHT, _IN_FLIGHT_BYTES = 32, 256 * 2**20
# Refused ranges that wait for the end of a round; their chunks wait in memory with them.
_MOST_REFUSED = 32
# How often a request is repeated whose connection broke: it may be what stops the server each time.
_MOST_LOST = 3
_REFUSED = (RequestRejected, ServerFailed)


@dataclass(frozen=True)
class Plan:
    """Which outputs of which version are kept, and how `rows` rows are cut into requests and chunks.

    `batch_size` counts the rows of a request, and `in_flight` the requests that are under way at once.
    """

    model: str
    version: str
    outputs: tuple[str, ...]
    rows: int
    batch_size: int
    in_flight: int

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
    contract: Contract,
    source: Source,
    outputs: Sequence[str] | None = None,
    batch_size: int | None = None,
    in_flight: int | None = None,
) -> Plan:
    """Plan the requests of a data set, with options as `clients.batch.job.run` takes them.

    The newest of the served versions answers all of them.

    Raises:
        InvalidInput: the model has no such output, or an output has the name of another column.
    """
    size = min(batch_size or contract.max_batch_size, contract.max_batch_size) or 1
    kept = tuple(dict.fromkeys(outputs or (spec.name for spec in contract.outputs)))
    if unknown := set(kept) - {spec.name for spec in contract.outputs}:
        raise InvalidInput(f"{contract.model} has no output '{min(unknown)}'; it gives {names(contract.outputs)}")
    if taken := {source.column, "error"} & set(kept):
        raise InvalidInput(f"output '{min(taken)}' has the name of another column; name the others with --outputs")
    # A dim that varies counts as 1.
    row_bytes = sum(
        math.prod(map(abs, spec.dims)) * np.dtype(triton_to_np_dtype(spec.datatype)).itemsize
        for spec in contract.inputs
    )
    affordable = max(2, min(IN_FLIGHT, _IN_FLIGHT_BYTES // max(row_bytes * size, 1)))
    version = max(contract.versions, key=int, default="")
    return Plan(contract.model, version, kept, source.rows, size, in_flight or affordable)


def job_of(plan: Plan, source: Source) -> dict[str, Any]:
    """Describe, as JSON, all that a finished row depends on: the rows of another job are other rows."""
    return {
        "model": plan.model,
        "model_version": plan.version,
        "outputs": list(plan.outputs),
        "batch_size": plan.batch_size,
        "chunk_rows": plan.chunk_rows,
        "rows": plan.rows,
        "input": dict(source.identity),
    }


@dataclass
class Run:
    """One run over all rows whose chunks are not finished; calls `advance` with the number of rows as it goes."""

    client: AsyncClient
    plan: Plan
    source: Source
    store: Store
    advance: Callable[[int], object]
    _waiting: dict[int, dict[int, Chunk]] = field(default_factory=dict)
    _refused: list[range] = field(default_factory=list)
    _known_good: int | None = None

    async def finish(self) -> None:
        """Run the model on all rows that are missing.

        Raises:
            ClientError: the server failed; finished chunks are kept.
        """
        # Once for all workers, who would each ask.
        await self.client.contract(self.plan.model, self.plan.version)
        self._known_good = first_good_row(self.plan, self.store)
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
            except _REFUSED:
                self._refused.append(rows)
            else:
                await self._place(rows, answer)
            if len(self._refused) >= _MOST_REFUSED:
                return

    async def _ask(self, rows: range) -> Chunk:
        requests, errors = await asyncio.to_thread(self.source.load, rows)
        answers = [await self._infer(inputs) for inputs in requests]
        chunk = Chunk(np.array(errors, np.str_), concatenate(answers, self.plan.outputs))
        good = [row for row, error in zip(rows, errors, strict=True) if not error]
        for name, array in chunk.outputs.items():
            if len(array) != len(good):
                wrong = f"output '{name}' has {len(array)} rows for {len(good)} rows of input"
                raise ServerFailed(f"{self.plan.model}: {wrong}")
        if good and self._known_good is None:
            self._known_good = good[0]
        return chunk

    async def _infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Send one request; wait for a server that goes away for a moment, and send it again."""
        plan, retries = self.plan, self.client.connection.retries
        contract = await self.client.contract(plan.model, plan.version)
        absent, lost = retry_delays(retries), retry_delays(min(retries, _MOST_LOST))
        while True:
            try:
                outputs = await self.client.infer(plan.model, inputs, plan.outputs, plan.version)
            except (ModelNotFound, ConnectionLost) as error:
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
            except _REFUSED as error:
                failures.append(error)
                parts[row] = Chunk(np.array([str(error)]), {})
        if failures:
            # If a row that was good before still is, the server works, and the rows are bad.
            if self._known_good is None:
                raise failures[0]
            await self._ask(range(self._known_good, self._known_good + 1))
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


def first_good_row(plan: Plan, store: Store) -> int | None:
    """A row that was answered in an earlier run, if any."""
    places = ((index, chunk.first_good) for index, chunk in sorted(store.finished.items()))
    return next((index * plan.chunk_rows + place for index, place in places if place is not None), None)


def storable(array: Array) -> Array:
    """Convert an output to a dtype of numpy's own: texts to str (bytes that are no UTF-8 escaped), BF16 to float32."""
    if array.dtype == object:
        texts = [text.decode(errors="backslashreplace") for text in array.reshape(-1)]
        return np.array(texts, dtype=np.str_).reshape(array.shape)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def concatenate(parts: Sequence[Mapping[str, Array]], outputs: Sequence[str]) -> dict[str, Array]:
    """Join the outputs of several answers; empty if there is none.

    Raises:
        InvalidInput: their rows differ in shape or dtype.
    """
    parts = [part for part in parts if part]
    for name in outputs if parts else ():
        check_uniform(name, *(part[name] for part in parts))
    return {name: np.concatenate([part[name] for part in parts]) for name in outputs} if parts else {}


def join(parts: Mapping[int, Chunk], outputs: Sequence[str]) -> Chunk:
    """Join chunks in the order of their first rows, which are the keys."""
    ordered = [parts[first] for first in sorted(parts)]
    errors = np.concatenate([part.errors for part in ordered])
    return Chunk(errors, concatenate([part.outputs for part in ordered], outputs))
