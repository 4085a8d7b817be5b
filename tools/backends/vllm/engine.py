"""The loop that generates: who waits, who runs, one step after another, and nothing else.

Sequences join and leave between steps. One joins when the KV cache has room for all that it may become, so that none is
ever pushed out again; until then it waits, in the order of arrival.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tools.backends.vllm.pipeline import News, Pipeline
    from tools.backends.vllm.settings import Settings


@dataclass(eq=False)
class Sequence:
    """One continuation of one prompt.

    Attributes:
        prompt, config: its tokens and how to continue them, as the pipeline wants it.
        blocks: of KV cache that it may need.
        owner: whoever gets its news.
        number: which of the owner's continuations it is.
        leaves: set by anybody who wants no more of it.
    """

    prompt: Any
    config: Any
    blocks: int
    owner: Any
    number: int
    leaves: bool = False
    arrived: float = field(default_factory=time.monotonic)
    joined: float = 0.0
    handle: Any = None


@dataclass(frozen=True)
class Step:
    """What one step brought, and when it was done."""

    time: float
    news: list[tuple[Sequence, News]]


class Engine:
    """The thread that steps; it ends with `close`, or with the first step that fails.

    Attributes:
        usage: the part of the KV cache in use after the last step.
        began: when the current step began; None between steps.
        failure: why the engine has ended, or is not to be used any more; empty while all is well.
    """

    def __init__(self, pipeline: Pipeline, settings: Settings, deliver: Callable[[Step], None]):
        self.usage = 0.0
        self.began: float | None = None
        self.failure = ""
        self._pipeline, self._most, self._deliver = pipeline, settings.max_num_seqs, deliver
        self._free = settings.blocks
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._changed = threading.Condition()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(self, sequence: Sequence) -> None:
        """Take a sequence, which runs as soon as there is room.

        Raises:
            ConnectionError: the engine is not to be used any more.
        """
        with self._changed:
            if self.failure:
                raise ConnectionError(f"Model is unavailable due to unhealthy engine: {self.failure}")
            self._waiting.append(sequence)
            self._changed.notify()

    def counts(self) -> tuple[int, int]:
        """How many sequences run and how many wait."""
        return len(self._running), len(self._waiting)

    def owners(self) -> list[Any]:
        """Everybody who waits for something, each once."""
        with self._changed:
            return list(dict.fromkeys(sequence.owner for sequence in (*self._running, *self._waiting)))

    def close(self, seconds: float) -> bool:
        """End the loop; whether it has ended in time."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while self._has_work():
                self._turn()
        except Exception as error:  # Whatever it is, every caller is told, and nobody waits for ever.
            self.failure = self.failure or f"a step failed: {error}"

    def _has_work(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closing or self._running or self._waiting)
            return not self._is_closing and not self.failure

    def _turn(self) -> None:
        """One step, after those who left and with those who came."""
        leaving = {sequence for sequence in self._running if sequence.leaves}
        for sequence in leaving:
            sequence.handle.stop()
        self._admit()
        self._step()
        step = Step(time.monotonic(), [])
        staying = []
        for sequence in self._running:
            news = None if sequence in leaving else self._pipeline.news(sequence.handle)
            if news and (news.tokens or news.reason):
                step.news.append((sequence, news))
            if news and not news.reason:
                staying.append(sequence)
            else:
                self._free += sequence.blocks
        with self._changed:
            self._running = staying
        if step.news:
            self._deliver(step)
        if not staying:
            self._step()  # One without sequences, so that the engine counts again what is in use.
        self.usage = self._pipeline.usage()

    def _step(self) -> None:
        self.began = time.monotonic()
        self._pipeline.step()
        self.began = None

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._most:
            sequence = self._waiting[0]
            if not sequence.leaves and sequence.blocks > self._free:
                return
            with self._changed:
                self._waiting.popleft()
                if sequence.leaves:
                    continue
                self._running.append(sequence)
            self._free -= sequence.blocks
            sequence.joined = time.monotonic()
            sequence.handle = self._pipeline.add(sequence.prompt, sequence.config)
