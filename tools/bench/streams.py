"""Streams of tokens over gRPC, read as cheaply as Python can: messages are counted, not decoded."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from clients.generation import Generation

_METHOD = "/inference.GRPCInferenceService/ModelStreamInfer"


@dataclass(frozen=True)
class Streamed:
    """What came of some streams that began together: seconds in all, to first messages and between messages."""

    seconds: float
    client_cpu_s: float
    first: list[float]
    between: list[float]


def stream(address: str, model: str, prompts: Sequence[str], tokens: int) -> Streamed:
    """Have each prompt continued by so many tokens, all at once."""
    return asyncio.run(_stream(address, [_request(model, prompt, tokens) for prompt in prompts]))


def stories(count: int) -> list[str]:
    """Prompts of one length that differ."""
    return [f"Write story number {number} about a cat and the sea.\n\nIt was" for number in range(count)]


def _request(model: str, prompt: str, tokens: int) -> bytes:
    sampling = json.dumps({"max_tokens": tokens, "temperature": 0, "ignore_eos": True})
    asked = Generation(model, "", {"text_input": prompt, "sampling_parameters": sampling, "stream": True})
    return bytes(asked.message().SerializeToString())


async def _stream(address: str, requests: Sequence[bytes]) -> Streamed:
    import grpc.aio

    async with grpc.aio.insecure_channel(address) as channel:
        await channel.channel_ready()
        used, began = time.process_time(), time.perf_counter()
        times = await asyncio.gather(*(_read(channel, request) for request in requests))
        seconds, cpu = time.perf_counter() - began, time.process_time() - used
    between = [later - earlier for moments in times for earlier, later in pairwise(moments)]
    return Streamed(seconds, cpu, [moments[0] - began for moments in times], between)


async def _read(channel: "grpc.aio.Channel", request: bytes) -> list[float]:  # type: ignore[name-defined]  # noqa: F821
    """When each message of a stream came."""
    call = channel.stream_stream(_METHOD)([request])
    return [time.perf_counter() async for _ in call]
