"""Generations as they come in: over gRPC and HTTP, synchronous and asyncio.

Whoever closes such a generator cancels the generation: over gRPC the stream, over HTTP the connection. That is not the
cancellation that can end tritonserver 2.51, which is that of a single inference over gRPC.
"""

import asyncio
import http.client
import json
import time
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping
from contextlib import aclosing, closing, contextmanager
from functools import partial
from typing import Any

from tritonclient.utils import InferenceServerException

from clients import failures, tracing, wire
from clients.connection import Connection
from clients.generation import Chunk, Generation, Reading
from clients.handles import survives_no_fork

Outputs = Mapping[str, Any]
_EVENT = b"data:"
_LARGEST_EVENT = 2**20
# What NVIDIA's backend says, and ours too.
_CODES = {
    "unhealthy engine": "StatusCode.UNAVAILABLE",
    "Error generating stream": "StatusCode.INVALID_ARGUMENT",
}


def chunks(client: Any, generation: Generation, connection: Connection) -> Generator[Chunk, None, None]:
    """The answer to a generation; it is tried again only as long as nothing of it has come.

    Args:
        client: tritonclient's, which gRPC goes through.
        generation: what to ask.
        connection: where.

    Raises:
        ClientError: one of its kinds.
    """
    what, delays = f"generation of {generation.model}", failures.retry_delays(connection.retries)
    stream = partial(_over_grpc, client) if connection.protocol == "grpc" else _over_http
    while True:
        reading = Reading()
        try:
            with closing(stream(generation, connection)) as responses:
                for outputs in responses:
                    yield from _read(reading, outputs, connection, what)
            return reading.check()
        except failures.transport_errors() as error:
            left = iter(()) if reading.has_begun else delays
            delay = failures.delay_or_raise(error, connection, what, left, repeatable=False)
        time.sleep(delay)


async def chunks_aio(client: Any, generation: Generation, connection: Connection) -> AsyncGenerator[Chunk, None]:
    """The same with asyncio."""
    what, delays = f"generation of {generation.model}", failures.retry_delays(connection.retries)
    stream = partial(_over_grpc_aio, client) if connection.protocol == "grpc" else _over_http_aio
    while True:
        reading = Reading()
        try:
            async with aclosing(stream(generation, connection)) as responses:
                async for outputs in responses:
                    for chunk in _read(reading, outputs, connection, what):
                        yield chunk
            reading.check()
            return
        except failures.transport_errors() as error:
            left = iter(()) if reading.has_begun else delays
            delay = failures.delay_or_raise(error, connection, what, left, repeatable=False)
        await asyncio.sleep(delay)


def _read(reading: Reading, outputs: Outputs, connection: Connection, what: str) -> list[Chunk]:
    with failures.reading(connection, what):
        return reading.chunks(outputs)


def _over_grpc(client: Any, generation: Generation, connection: Connection) -> Generator[Outputs, None, None]:
    call = _called(client, generation, connection)
    survives_no_fork(call)
    with _closing(call):
        for response in call:
            yield _outputs(response)


async def _over_grpc_aio(client: Any, generation: Generation, connection: Connection) -> AsyncGenerator[Outputs, None]:
    call = _called(client, generation, connection)
    with _closing(call):
        async for response in call:
            yield _outputs(response)


def _called(client: Any, generation: Generation, connection: Connection) -> Any:
    # tritonclient's own streams are one per client, with a thread and a callback.
    stream = client._client_stub.ModelStreamInfer
    return stream(
        iter([generation.message()]), metadata=tuple(_headers(connection).items()), timeout=connection.timeout_s
    )


def _headers(connection: Connection) -> dict[str, str]:
    headers: dict[str, str] = wire.request_options(connection, tracing.current())["headers"]
    return headers


@contextmanager
def _closing(call: Any) -> Iterator[None]:
    import grpc

    try:
        yield
    except grpc.RpcError as error:
        raise InferenceServerException(error.details(), status=str(error.code())) from None
    finally:
        call.cancel()


def _outputs(response: Any) -> Outputs:
    from tritonclient.grpc import InferResult

    if message := response.error_message:
        # In a stream, errors have no code. Triton offers one (triton_grpc_error), but that can end tritonserver 2.51.
        raise InferenceServerException(
            message, next((code for words, code in _CODES.items() if words in message), None)
        )
    result = InferResult(response.infer_response)
    arrays = {output.name: result.as_numpy(output.name) for output in response.infer_response.outputs}
    return {
        name: [item.decode() if isinstance(item, bytes) else item for item in array.reshape(-1).tolist()]
        for name, array in arrays.items()
    }


def _over_http(generation: Generation, connection: Connection) -> Generator[Outputs, None, None]:
    deadline = time.monotonic() + connection.timeout_s
    address, _, prefix = connection.url.partition("/")
    tls = {"context": wire.ssl_context(connection)} if connection.tls else {}
    kind: Any = http.client.HTTPSConnection if tls else http.client.HTTPConnection
    with closing(kind(address, timeout=connection.timeout_s, **tls)) as opened:
        opened.connect()
        socket = opened.sock  # The connection forgets it where the server will close it.
        path = f"/{prefix}".rstrip("/") + generation.path
        opened.request("POST", path, json.dumps(generation.inputs), _headers(connection))
        with closing(opened.getresponse()) as answer:
            if answer.status != 200:
                raise _refusal(answer.status, answer.read())
            while line := answer.readline():
                yield from _event(line)
                # A socket's own timeout restarts with every byte.
                socket.settimeout(max(deadline - time.monotonic(), 1e-3))


async def _over_http_aio(generation: Generation, connection: Connection) -> AsyncGenerator[Outputs, None]:
    from aiohttp import ClientSession, ClientTimeout

    timeout = ClientTimeout(total=connection.timeout_s)
    scheme, tls = ("https", wire.ssl_context(connection)) if connection.tls else ("http", True)
    url = f"{scheme}://{connection.url.rstrip('/')}{generation.path}"
    async with (
        ClientSession(timeout=timeout, headers=_headers(connection), read_bufsize=_LARGEST_EVENT) as session,
        session.post(url, json=generation.inputs, ssl=tls) as answer,
    ):
        if answer.status != 200:
            raise _refusal(answer.status, await answer.read())
        async for line in answer.content:
            for outputs in _event(line):
                yield outputs


def _event(line: bytes) -> Iterator[Outputs]:
    """The outputs in a line of server-sent events; ValueError if it is something else."""
    if not line.strip():
        return
    if not line.startswith(_EVENT):
        raise ValueError(f"expected an event, got {line[:80]!r}")
    outputs = json.loads(line.removeprefix(_EVENT))
    if "error" in outputs:
        raise InferenceServerException(str(outputs["error"]), status="500")
    yield outputs


def _refusal(status: int, body: bytes) -> Exception:
    try:
        # Triton's refusal of a stream is an event, too.
        reason = str(json.loads(body.removeprefix(_EVENT))["error"])
    except (ValueError, LookupError, TypeError):
        return ValueError(f"HTTP {status}: {body[:80]!r}")
    refusal: Exception = InferenceServerException(reason, status=str(status))
    return refusal
