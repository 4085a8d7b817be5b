"""Requests on their way through the router: passed on, or answered by a model and its candidate at once."""

import asyncio
import json
import re
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, web
from multidict import CIMultiDict
from yarl import URL

from clients.router.replies import Reply, renamed
from clients.router.trial import Trial

# Requests that name a version are passed on: they mean that one.
_INFER = re.compile(r"/v2/models/([^/]+)/infer")
# Headers that belong to one connection, not to the message (RFC 9110, 7.6.1), or are computed anew.
_HOP_BY_HOP = frozenset(
    ("connection", "expect", "host", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade")
)


@dataclass
class Router:
    """Passes requests on to a server; used within `async with`, which opens the connections to it."""

    upstream: str  # the server, HOST:PORT
    patience_s: float = 1.0  # how long a caller of a canary waits for the candidate
    timeout_s: float = 60.0  # deadline of any request
    trials: dict[str, Trial] = field(default_factory=dict)  # by model
    _background: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> "Router":
        # Bodies pass as they are, compressed or not; callers limit the number of connections.
        timeout, connector = ClientTimeout(total=self.timeout_s), TCPConnector(limit=0)
        self._session = ClientSession(timeout=timeout, connector=connector, auto_decompress=False)
        return self

    async def __aexit__(self, *error: object) -> None:
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._session.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a caller's request, by way of the server."""
        match = _INFER.fullmatch(request.rel_url.raw_path)
        trial = self.trials.get(unquote(match[1])) if match and request.method == "POST" else None
        if trial is None or not trial.takes_part():
            return await self._pass_through(request)
        reply = await self._try_candidate(trial, request)
        headers = CIMultiDict((name, value) for name, value in reply.headers.items() if name != "Content-Length")
        return web.Response(status=reply.status, headers=headers, body=reply.body)

    async def _pass_through(self, request: web.Request) -> web.StreamResponse:
        """Ask the server, and stream its answer."""
        body = await request.read() if request.can_read_body else None
        url, headers = self._url(request.rel_url.raw_path_qs), _end_to_end(request.headers)
        try:
            async with self._session.request(request.method, url, headers=headers, data=body) as answer:
                response = web.StreamResponse(status=answer.status, headers=_end_to_end(answer.headers))
                await response.prepare(request)
                async for part in answer.content.iter_any():
                    await response.write(part)
                await response.write_eof()
                return response
        except (ClientError, TimeoutError, OSError) as error:
            reply = self._no_reply(error, 0)
            return web.Response(status=502, body=reply.body, content_type="application/json")

    async def _try_candidate(self, trial: Trial, request: web.Request) -> Reply:
        """Ask the model and the candidate at once; return the reply that the caller gets."""
        body, headers = await request.read(), _end_to_end(request.headers)
        path = f"/v2/models/{quote(trial.terms.candidate)}/infer"
        trial.under_way += 1
        model = asyncio.ensure_future(self._ask(request.rel_url.raw_path_qs, headers, body))
        candidate = asyncio.ensure_future(self._ask(path, headers, body))
        comparison = asyncio.create_task(self._compare(trial, model, candidate))
        self._background.add(comparison)
        comparison.add_done_callback(self._background.discard)
        if trial.terms.mode == "canary":
            await asyncio.wait([candidate], timeout=self.patience_s)
            if candidate.done() and candidate.result().good:
                return renamed(candidate.result(), trial.terms.candidate, trial.terms.model)
            trial.rescued += 1
        reply = await asyncio.shield(model)
        return reply if reply.status else Reply(502, {"Content-Type": "application/json"}, reply.body, reply.seconds)

    async def _compare(self, trial: Trial, model: Awaitable[Reply], candidate: asyncio.Future[Reply]) -> None:
        """Compare the two replies once both are here; a candidate that is late counts as one without a reply."""
        try:
            own = await model
            await asyncio.wait([candidate], timeout=max(self.patience_s - own.seconds, 0.0))
            late = Reply(0, {}, b"", self.patience_s)
            trial.compare(own, candidate.result() if candidate.done() else late)
            await candidate
        finally:
            trial.under_way -= 1

    async def _ask(self, path: str, headers: CIMultiDict[str], body: bytes) -> Reply:
        began = time.monotonic()
        try:
            async with self._session.post(self._url(path), headers=headers, data=body) as answer:
                content = await answer.read()
                return Reply(answer.status, _end_to_end(answer.headers), content, time.monotonic() - began)
        except (ClientError, TimeoutError, OSError) as error:
            return self._no_reply(error, time.monotonic() - began)

    def _no_reply(self, error: Exception, seconds: float) -> Reply:
        """No reply, with the reason in the form of Triton's errors."""
        reason = f"the router gets no answer from {self.upstream}: {str(error) or type(error).__name__}"
        return Reply(0, {}, json.dumps({"error": reason}).encode(), seconds)

    def _url(self, path: str) -> URL:
        """A path at the server, escaped as the caller wrote it."""
        return URL(f"http://{self.upstream}{path}", encoded=True)


def _end_to_end(headers: Any) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP)
