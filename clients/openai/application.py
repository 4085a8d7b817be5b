"""OpenAI's API over Triton's gRPC: completions of texts and chats, whole or streamed, and the list of models.

A caller that goes away takes its generation with it: aiohttp cancels the handler, and leaving its loop cancels the
stream to Triton. That takes a runner with `handler_cancellation=True`.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiohttp import web

from clients.aio import AsyncClient
from clients.connection import Connection
from clients.errors import ClientError, ModelNotFound
from clients.generation import Chunk, is_language_model
from clients.openai.replies import Reply, error, error_document, event
from clients.openai.requests import Asked, Refused, asked

_SSE = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def add_openai(application: web.Application, connection: Connection, chat_template: str = "") -> None:
    """Let an application answer /v1 by way of a server; before it routes anything else.

    Args:
        application: what is served.
        connection: to Triton, over gRPC.
        chat_template: one for all models, in place of their own.
    """
    api = _Api(connection, chat_template)
    application.cleanup_ctx.append(api.connected)
    routes: dict[tuple[str, str], Handler] = {
        ("POST", "/v1/chat/completions"): partial(api.complete, is_chat=True),
        ("POST", "/v1/completions"): partial(api.complete, is_chat=False),
        ("GET", "/v1/models"): api.models,
        ("GET", "/v1/models/{model}"): api.model,
        ("*", "/v1{path:(/.*)?}"): _unknown,
    }
    for (method, path), handler in routes.items():
        application.router.add_route(method, path, _answered(handler))


def _answered(handler: Handler) -> Handler:
    """Answer with an error of OpenAI's form what goes wrong before the answer has begun."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except ClientError as problem:
            status, document = error(problem)
        except web.HTTPRequestEntityTooLarge as problem:
            status, document = problem.status, error_document(problem.text or problem.reason, problem.status)
        return web.json_response(document, status=status)

    return answer


async def _unknown(request: web.Request) -> web.StreamResponse:
    message = f"nothing is served at {request.method} {request.path}"
    return web.json_response(error_document(message, 404), status=404)


@dataclass
class _Api:
    connection: Connection
    chat_template: str

    async def connected(self, _: web.Application) -> AsyncIterator[None]:
        async with AsyncClient(self.connection) as self._client:
            yield

    async def complete(self, request: web.Request, is_chat: bool) -> web.StreamResponse:
        wanted = asked(await _body(request), is_chat)
        template = self.chat_template if is_chat else ""
        generated = self._client.generate(
            wanted.model, wanted.prompt, stream=wanted.streams, chat_template=template, **wanted.sampling
        )
        async with aclosing(generated) as chunks:
            if wanted.streams:
                return await _streamed(request, wanted, chunks)
            return web.json_response(Reply(wanted).whole([chunk async for chunk in chunks]))

    async def models(self, _: web.Request) -> web.StreamResponse:
        ready = sorted({model["name"] for model in await self._client.models() if model.get("state") == "READY"})
        data = [_model(name) for name in ready if await self._is_offered(name)]
        return web.json_response({"object": "list", "data": data})

    async def model(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["model"]
        if not await self._is_offered(name):
            raise ModelNotFound(f"there is no language model '{name}'")
        return web.json_response(_model(name))

    async def _is_offered(self, name: str) -> bool:
        with suppress(ModelNotFound):  # It may just have been unloaded.
            return is_language_model(await self._client.contract(name))
        return False


async def _body(request: web.Request) -> Any:
    try:
        return await request.json()
    except (ValueError, RecursionError) as problem:
        raise Refused(f"the body is not JSON: {problem}") from problem


async def _streamed(request: web.Request, wanted: Asked, chunks: AsyncGenerator[Chunk, None]) -> web.StreamResponse:
    reply, response = Reply(wanted), web.StreamResponse(headers=_SSE)
    # What the engine refuses is answered with a status: so the first piece comes before the headers.
    first = await anext(chunks)
    await response.prepare(request)
    for part in reply.parts(first):
        await response.write(part)
    try:
        async for chunk in chunks:
            for part in reply.parts(chunk):
                await response.write(part)
        await response.write(reply.end())
    except ClientError as problem:
        await response.write(event(error(problem)[1]))
    return response


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "triton"}
