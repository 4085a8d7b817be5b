"""The requests of a large inference: many under way at once, their answers put together to chunks in order.

Workers take the next stretch of rows, read it in a thread, ask the server and put the answer where it belongs; a chunk
whose last answer has come is handed to the store. What the server refuses is asked again at the end of a round, row by
row with nothing else under way: a server that forms batches answers all of a batch with the failure of one row.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from clients import retry
from clients.aio import AsyncClient
from clients.batch.chunks import Chunk, Store, check_even
from clients.batch.plan import Plan, stretches
from clients.batch.sources import Source
from clients.contract import Array
from clients.errors import ClientError, ConnectionLost, ModelNotFound, RequestRejected, ServerFailed

# Refused stretches that wait for the end of a round; their chunks wait in memory with them.
MOST_REFUSED = 32
# How often a request is sent again whose connection broke: it may be what stops the server each time.
MOST_LOST = 3
REFUSED = (RequestRejected, ServerFailed)


@dataclass(frozen=True)
class Answer:
    """The outputs of the good ones among some rows, in order, and the reasons of the others, by row."""

    outputs: dict[str, Array]
    errors: dict[int, str]


@dataclass
class Run:
    """One run over all rows whose chunks are not finished; `progress` hears of the rows as they are answered."""

    client: AsyncClient
    plan: Plan
    source: Source
    store: Store
    progress: Callable[[int], object]
    waiting: dict[int, dict[int, Answer]] = field(default_factory=dict)
    refused: list[range] = field(default_factory=list)
    answered: int | None = None

    async def finish(self) -> None:
        """Ask for all that is missing.

        Raises:
            ClientError: the server failed; what is finished is kept.
        """
        # Asked for here, so that the workers find it: all would ask at once.
        await self.client.contract(self.plan.model, self.plan.version)
        self.answered = first_good(self.plan, self.store)
        todo = self._todo()
        while True:
            await self._round(todo)
            if not self.refused:
                return
            while self.refused:
                rows = self.refused.pop()
                await self._place(rows, await self._one_by_one(rows))

    def _todo(self) -> Iterator[range]:
        for index, chunk in enumerate(self.plan.chunks()):
            if index not in self.store.finished:
                yield from stretches(chunk, self.plan.batch_size)

    async def _round(self, todo: Iterator[range]) -> None:
        """Work until nothing is left to do, or too much is refused."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.plan.in_flight):
                    group.create_task(self._work(todo))
        except ExceptionGroup as failures:
            # The first one ended the others; a bug of ours is shown as it is.
            raise failures.exceptions[0] from failures

    async def _work(self, todo: Iterator[range]) -> None:
        for rows in todo:
            try:
                answer = await self._ask(rows)
            except REFUSED:
                self.refused.append(rows)
            else:
                await self._place(rows, answer)
            if len(self.refused) >= MOST_REFUSED:
                return

    async def _ask(self, rows: range) -> Answer:
        """Read rows and have them answered."""
        loaded = await asyncio.to_thread(self.source.load, rows)
        answers = [await self._infer(inputs) for inputs in loaded.requests]
        outputs = joined(answers, self.plan.outputs)
        good = len(rows) - len(loaded.errors)
        for name, array in outputs.items():
            if len(array) != good:
                raise ServerFailed(f"{self.plan.model}: output '{name}' has {len(array)} rows for {good} rows of input")
        if good and self.answered is None:
            self.answered = next(row for row in rows if row not in loaded.errors)
        return Answer(outputs, loaded.errors)

    async def _infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """One request; where the server goes away for a moment, it is waited for and asked again."""
        plan, retries = self.plan, self.client.connection.retries
        contract = await self.client.contract(plan.model, plan.version)
        absent, lost = retry.delays(retries), retry.delays(min(retries, MOST_LOST))
        while True:
            try:
                outputs = await self.client.infer(plan.model, inputs, plan.outputs, plan.version)
            except (ModelNotFound, ConnectionLost) as error:
                delay = next(lost if isinstance(error, ConnectionLost) else absent, None)
                if delay is None:
                    raise
                await asyncio.sleep(delay)
            else:
                return {name: plain(array if contract.batched else array[None]) for name, array in outputs.items()}

    async def _one_by_one(self, rows: range) -> Answer:
        """Ask for refused rows alone; those that are refused again get the reason."""
        answers: list[Answer] = []
        failures: dict[int, ClientError] = {}
        for row in rows:
            try:
                answers.append(await self._ask(range(row, row + 1)))
            except REFUSED as error:
                failures[row] = error
        if failures:
            await self._blame_the_rows(next(iter(failures.values())))
        errors = {row: reason for answer in answers for row, reason in answer.errors.items()}
        outputs = joined([answer.outputs for answer in answers], self.plan.outputs)
        return Answer(outputs, errors | {row: str(failure) for row, failure in failures.items()})

    async def _blame_the_rows(self, error: ClientError) -> None:
        """Raise the error unless a row that was answered before still is: then the server is well, the rows are not."""
        if self.answered is None:
            raise error
        await self._ask(range(self.answered, self.answered + 1))

    async def _place(self, rows: range, answer: Answer) -> None:
        """Put an answer where it belongs, and its chunk into the store once it is complete."""
        index = rows.start // self.plan.chunk_rows
        chunk = self.plan.chunk(index)
        parts = self.waiting.setdefault(index, {})
        parts[rows.start] = answer
        self.progress(len(rows))
        if len(parts) == len(stretches(chunk, self.plan.batch_size)):
            del self.waiting[index]
            await asyncio.to_thread(self.store.add, index, assembled(chunk, parts, self.plan.outputs))


def first_good(plan: Plan, store: Store) -> int | None:
    """Some row that was answered in an earlier run."""
    known = ((index, one.good) for index, one in sorted(store.finished.items()))
    return next((index * plan.chunk_rows + good for index, good in known if good is not None), None)


def plain(array: Array) -> Array:
    """An output as it is kept: texts as str (with escapes for bytes that are no UTF-8), bfloat16 as float32."""
    if array.dtype == object:
        texts = [text.decode(errors="backslashreplace") for text in array.reshape(-1)]
        return np.array(texts, dtype=np.str_).reshape(array.shape)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def joined(parts: Sequence[Mapping[str, Array]], outputs: Sequence[str]) -> dict[str, Array]:
    """The outputs of several answers one after the other; empty when there is none.

    Raises:
        InvalidInput: their rows have different shapes.
    """
    parts = [part for part in parts if part]
    for name in outputs if parts else ():
        check_even(name, *(part[name] for part in parts))
    return {name: np.concatenate([part[name] for part in parts]) for name in outputs} if parts else {}


def assembled(chunk: range, parts: Mapping[int, Answer], outputs: Sequence[str]) -> Chunk:
    """A chunk of its answers, which are given by their first row."""
    reasons = {row: reason for part in parts.values() for row, reason in part.errors.items()}
    errors = np.array([reasons.get(row, "") for row in chunk], dtype=np.str_)
    return Chunk(errors, joined([parts[start].outputs for start in sorted(parts)], outputs))
