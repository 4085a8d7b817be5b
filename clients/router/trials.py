"""The trials of a router, and how a request of theirs is answered: by a model and its candidate at once.

HTTP and gRPC meet here: a request counts the same, whichever way it came.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from clients.router.replies import Message
from clients.router.trial import Trial

Answer = TypeVar("Answer", bound=Message)
# Two models would write to the same memory, and a candidate would see pieces of sequences.
_FOR_ONE_ALONE = (b"shared_memory_region", b"sequence_id")


class Trials:
    """All trials, by model.

    Attributes:
        patience_s: how long a caller of a canary waits for the candidate.
    """

    def __init__(self, patience_s: float):
        self.running: dict[str, Trial] = {}
        self.patience_s = patience_s
        self._comparisons: set[asyncio.Task[None]] = set()

    def for_request(self, model: str, message: bytes) -> Trial | None:
        """The trial that a request for a model takes part in, by chance; None for most.

        None for those with shared memory or of a sequence, whose names are the same in JSON and in gRPC's messages.
        """
        trial = self.running.get(model)
        if trial is None or not trial.takes_part() or any(name in message for name in _FOR_ONE_ALONE):
            return None
        return trial

    async def answer(
        self, trial: Trial, model: Coroutine[Any, Any, Answer], candidate: Coroutine[Any, Any, Answer]
    ) -> Answer:
        """Ask both at once; returns the reply that the caller gets, in the model's name whoever computed it.

        A caller who goes away ends neither of the two.
        """
        trial.under_way += 1
        own, other = asyncio.ensure_future(model), asyncio.ensure_future(candidate)
        comparison = asyncio.create_task(self._compare(trial, own, other))
        self._comparisons.add(comparison)
        comparison.add_done_callback(self._comparisons.discard)
        if trial.terms.mode == "canary":
            await asyncio.wait([other], timeout=self.patience_s)
            if other.done() and other.result().good:
                return other.result().renamed(trial.terms.model)
            trial.rescued += 1
        return await asyncio.shield(own)

    async def _compare(self, trial: Trial, model: asyncio.Future[Answer], candidate: asyncio.Future[Answer]) -> None:
        """Compare the two replies once both are here; a candidate that is late counts as one without a reply."""
        try:
            own = await model
            await asyncio.wait([candidate], timeout=max(self.patience_s - own.seconds, 0.0))
            trial.compare(own, candidate.result() if candidate.done() else None)
            await candidate
        finally:
            trial.under_way -= 1

    async def finish(self) -> None:
        """Wait for the requests that are under way."""
        await asyncio.gather(*self._comparisons, return_exceptions=True)
