"""Requests on their way through the router: passed on, or answered by a model and its candidate at once.

`clients.router` is the command; this is what happens to a request.
"""

import asyncio
import json
import re
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import quote, unquote

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, web
from multidict import CIMultiDict
from yarl import URL

from clients.router.replies import Reply, renamed
from clients.router.trial import Trial

# Requests that name a version mean that one, and are left alone.
INFER = re.compile(r"/v2/models/([^/]+)/infer")
# What belongs to one connection and not to the message (RFC 9110, 7.6.1), and what is worked out anew.
OWN = {
    "connection",
    "expect",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "proxy-connection",
    "host",
}


@dataclass
class Router:
    """Where requests go; used within `async with`, which opens the connections to the server.

    Attributes:
        upstream: the server, HOST:PORT.
        patience_s: how long a caller of a canary waits for the candidate.
        timeout_s: deadline of any request.
    """

    upstream: str
    patience_s: float = 1.0
    timeout_s: float = 60.0
    trials: dict[str, Trial] = field(default_factory=dict)
    _background: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> "Router":
        # Bodies pass as they are, compressed or not; callers set the limit of connections.
        timeout, connector = ClientTimeout(total=self.timeout_s), TCPConnector(limit=0)
        self._session = ClientSession(timeout=timeout, connector=connector, auto_decompress=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._session.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Any request of a caller."""
        found = INFER.fullmatch(request.rel_url.raw_path)
        trial = self.trials.get(unquote(found[1])) if found and request.method == "POST" else None
        if trial is None or not trial.takes_part():
            return await self.pass_through(request)
        reply = await self.both(trial, request)
        headers = CIMultiDict((name, value) for name, value in reply.headers.items() if name != "Content-Length")
        return web.Response(status=reply.status, headers=headers, body=reply.body)

    async def pass_through(self, request: web.Request) -> web.StreamResponse:
        """Ask the server and hand its answer on as it comes."""
        body = await request.read() if request.can_read_body else None
        url, headers = self.url(request.rel_url.raw_path_qs), kept(request.headers)
        try:
            async with self._session.request(request.method, url, headers=headers, data=body) as answer:
                response = web.StreamResponse(status=answer.status, headers=kept(answer.headers))
                await response.prepare(request)
                async for part in answer.content.iter_any():
                    await response.write(part)
                await response.write_eof()
                return response
        except (ClientError, TimeoutError, OSError) as error:
            reply = unanswered(error, self.upstream, 0)
            return web.Response(status=502, body=reply.body, content_type="application/json")

    async def both(self, trial: Trial, request: web.Request) -> Reply:
        """Ask model and candidate at once; what the caller gets."""
        body, headers = await request.read(), kept(request.headers)
        place = f"/v2/models/{quote(trial.terms.candidate)}/infer"
        trial.under_way += 1
        model = asyncio.ensure_future(self.ask(request.rel_url.raw_path_qs, headers, body))
        candidate = asyncio.ensure_future(self.ask(place, headers, body))
        settled = asyncio.create_task(self.settle(trial, model, candidate))
        self._background.add(settled)
        settled.add_done_callback(self._background.discard)
        if trial.terms.mode == "canary":
            await asyncio.wait([candidate], timeout=self.patience_s)
            if candidate.done() and candidate.result().good:
                return renamed(candidate.result(), trial.terms.candidate, trial.terms.model)
            trial.rescued += 1
        return as_answered(await asyncio.shield(model))

    async def settle(self, trial: Trial, model: Awaitable[Reply], candidate: asyncio.Future[Reply]) -> None:
        """Compare the two answers once both are here; a candidate that is late has not answered."""
        try:
            own = await model
            left = max(self.patience_s - own.seconds, 0.0)
            await asyncio.wait([candidate], timeout=left)
            late = Reply(0, {}, b"", self.patience_s)
            trial.compare(own, candidate.result() if candidate.done() else late)
            await candidate
        finally:
            trial.under_way -= 1

    async def ask(self, path: str, headers: CIMultiDict[str], body: bytes) -> Reply:
        """One inference; status 0 where none came."""
        began = time.monotonic()
        try:
            async with self._session.post(self.url(path), headers=headers, data=body) as answer:
                content = await answer.read()
                return Reply(answer.status, kept(answer.headers), content, time.monotonic() - began)
        except (ClientError, TimeoutError, OSError) as error:
            return unanswered(error, self.upstream, time.monotonic() - began)

    def url(self, path: str) -> URL:
        """A path at the server, escaped as the caller wrote it."""
        return URL(f"http://{self.upstream}{path}", encoded=True)


def as_answered(reply: Reply) -> Reply:
    """For the caller: no answer at all is a bad gateway."""
    return reply if reply.status else Reply(502, {"Content-Type": "application/json"}, reply.body, reply.seconds)


def unanswered(error: Exception, upstream: str, seconds: float) -> Reply:
    """No answer, and why, in Triton's own form."""
    reason = f"the router gets no answer from {upstream}: {str(error) or type(error).__name__}"
    return Reply(0, {}, json.dumps({"error": reason}).encode(), seconds)


def kept(headers: Any) -> CIMultiDict[str]:
    """Headers without those that belong to one connection or are worked out anew."""
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in OWN)
