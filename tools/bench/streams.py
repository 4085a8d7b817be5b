"""Streams of tokens over gRPC, read as cheaply as Python can: messages are counted, not decoded."""

import asyncio
import json
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

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


def _request(model: str, prompt: str, tokens: int) -> bytes:
    from tritonclient.grpc.service_pb2 import ModelInferRequest

    request = ModelInferRequest(model_name=model)
    sampling = json.dumps({"max_tokens": tokens, "temperature": 0, "ignore_eos": True})
    for name, value in (("text_input", prompt), ("sampling_parameters", sampling)):
        request.inputs.add(name=name, datatype="BYTES", shape=[1]).contents.bytes_contents.append(value.encode())
    request.inputs.add(name="stream", datatype="BOOL", shape=[1]).contents.bool_contents.append(True)
    return bytes(request.SerializeToString())


async def _stream(address: str, requests: Sequence[bytes]) -> Streamed:
    import grpc.aio

    async with grpc.aio.insecure_channel(address) as channel:
        await channel.channel_ready()
        used, began = _cpu_seconds(), time.perf_counter()
        times = await asyncio.gather(*(_read(channel, request) for request in requests))
        seconds, cpu = time.perf_counter() - began, _cpu_seconds() - used
    between = [later - earlier for moments in times for earlier, later in pairwise(moments)]
    return Streamed(seconds, cpu, [moments[0] - began for moments in times], between)


async def _read(channel: "grpc.aio.Channel", request: bytes) -> list[float]:  # type: ignore[name-defined]  # noqa: F821
    """When each message of a stream came."""
    call = channel.stream_stream(_METHOD)([request])
    return [time.perf_counter() async for _ in call]


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
