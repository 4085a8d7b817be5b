"""Requests of mixed lengths to a language model, some left in the middle, some refused, and how each ended."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import tritonclient.grpc.aio as grpc
from tritonclient.utils import InferenceServerException

from tests.language.asking import BEGINNINGS, answer, messages
from tools.serve.tritonserver import Server
from tools.serve.usage import memory_bytes

MODEL, _LENGTHS = "lm", (1, 8, 30, 90)
_ERRORS = ({"top_p": 5}, {"max_tokens": "x"}, {"n": 0}, {"no_such": 1})


@dataclass
class Result:
    """How the requests ended, and memory while they ran."""

    endings: Counter[str] = field(default_factory=Counter)
    memory: list[tuple[int, int]] = field(default_factory=list)
    ties: int = 0  # prompts with two answers alone, see `_alone`
    different: Counter[str] = field(default_factory=Counter)  # what came in place of an answer, from where it differs

    def growth(self) -> dict[str, float]:
        """Growth of memory in MB per 1,000 requests after the first quarter: Theil and Sen's slope, 95 % interval."""
        from scipy.stats import theilslopes

        later = [point for point in sorted(self.memory) if point[0] >= self.memory[-1][0] / 4]
        if len(later) < 3:
            return dict.fromkeys(("slope", "low", "high"), 0.0)
        found = theilslopes([size for _, size in later], [number for number, _ in later])
        slopes = (found.slope, found.low_slope, found.high_slope)
        return {
            name: round(float(slope) / 1e3, 2) for name, slope in zip(("slope", "low", "high"), slopes, strict=True)
        }


async def run(
    server: Server,
    requests: int,
    at_once: int,
    choose: random.Random,
    prompts: Sequence[str] = BEGINNINGS,
    fill: int = 0,
) -> Result:
    """Send requests for random continuations of prompts, so many at once; before, long ones that fill the KV cache."""
    result, numbers = Result(), iter(range(requests))
    async with grpc.InferenceServerClient(server.grpc) as client:
        long = {"max_tokens": 480, "temperature": 0, "ignore_eos": True}
        await asyncio.gather(*(answer(client, MODEL, f"{number} {prompts[0]}", **long) for number in range(fill)))
        alone = {(text, length): await _alone(client, text, length) for text in prompts for length in _LENGTHS}
        result.ties = sum(len(texts) > 1 for texts in alone.values())

        async def work() -> None:
            for number in numbers:
                result.endings[await _one(client, alone, choose, result)] += 1
                if number % 20 == 0:
                    result.memory.append((number, memory_bytes(server.pid)))

        await asyncio.gather(*(work() for _ in range(at_once)))
    return result


async def _alone(client: grpc.InferenceServerClient, text: str, length: int) -> tuple[str, ...]:
    """The answer to a prompt alone, and beside itself: a step of one row adds up in another order than one of several.

    In float32 that decides only between tokens whose logits are equal to about six digits.
    """
    asked = [answer(client, MODEL, text, max_tokens=length, temperature=0) for _ in range(3)]
    texts = [(await asked.pop()).text, *(answered.text for answered in await asyncio.gather(*asked))]
    return tuple(dict.fromkeys(texts))


async def _one(
    client: grpc.InferenceServerClient,
    alone: dict[tuple[str, int], tuple[str, ...]],
    choose: random.Random,
    result: Result,
) -> str:
    """One request; how it ended."""
    (text, length), dice = choose.choice(list(alone)), choose.random()
    try:
        if dice < 0.2:
            return await _left(client, text, choose.randrange(1, 40))
        if dice < 0.3:
            await answer(client, MODEL, text, **choose.choice(_ERRORS))
            return "other"
        inputs = {"exclude_input_in_output": True}
        answered = await answer(client, MODEL, text, dice < 0.8, inputs, max_tokens=length, temperature=0)
        if answered.text in alone[text, length]:
            return "equal"
        first = alone[text, length][0]
        at = len(os.path.commonprefix([answered.text, first]))
        result.different[f"{text!r} … {first[at:][:20]!r} at {at}: {answered.text[at:][:20]!r}"] += 1
        return "different"
    except InferenceServerException as error:
        return "refused" if "Error generating stream" in str(error) else "other"


async def _left(client: grpc.InferenceServerClient, text: str, after: int) -> str:
    count = 0
    async for _ in messages(client, MODEL, text, True, {}, max_tokens=400, temperature=0, ignore_eos=True):
        count += 1
        if count == after:
            break
    return "left"
