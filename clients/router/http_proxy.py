"""HTTP on its way through the router: passed on, or answered by a model and its candidate at once."""

import json
import re
import time
from typing import Any
from urllib.parse import quote, unquote

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, web
from multidict import CIMultiDict
from yarl import URL

from clients.router.replies import HttpReply
from clients.router.trial import Trial
from clients.router.trials import Trials

TIMEOUT_S = 60.0  # deadline of any request
# Requests that name a version are passed on: they mean that one.
_INFER = re.compile(r"/v2/models/([^/]+)/infer")
# Headers that belong to one connection, not to the message (RFC 9110, 7.6.1), or are computed anew.
_HOP_BY_HOP = frozenset(
    ("connection", "expect", "host", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade")
)


class HttpRouter:
    """Passes requests on to a server, HOST:PORT; used within `async with`, which opens the connections to it."""

    def __init__(self, upstream: str, trials: Trials, timeout_s: float = TIMEOUT_S):
        self._upstream, self._trials, self._timeout_s = upstream, trials, timeout_s

    async def __aenter__(self) -> "HttpRouter":
        # Bodies pass as they are, compressed or not; callers limit the number of connections.
        timeout, connector = ClientTimeout(total=self._timeout_s), TCPConnector(limit=0)
        # Nothing is compressed for a caller who does not ask for it.
        plain = ("Accept-Encoding",)
        self._session = ClientSession(
            timeout=timeout, connector=connector, auto_decompress=False, skip_auto_headers=plain
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._trials.finish()
        await self._session.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a caller's request, by way of the server."""
        match = _INFER.fullmatch(request.rel_url.raw_path)
        trial = self._trials.for_request(unquote(match[1])) if match and request.method == "POST" else None
        if trial is None:
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

    async def _try_candidate(self, trial: Trial, request: web.Request) -> HttpReply:
        """Ask the model and the candidate at once; return the reply that the caller gets."""
        body, headers = await request.read(), _end_to_end(request.headers)
        own, other = trial.terms.model, trial.terms.candidate
        model = self._ask(request.rel_url.raw_path_qs, headers, body)
        candidate = self._ask(f"/v2/models/{quote(other)}/infer", headers, body)
        reply, is_candidates = await self._trials.answer(trial, model, candidate)
        if is_candidates:
            return reply.renamed(other, own)
        json_type = {"Content-Type": "application/json"}
        return reply if reply.status else HttpReply(502, json_type, reply.body, reply.seconds)

    async def _ask(self, path: str, headers: CIMultiDict[str], body: bytes) -> HttpReply:
        began = time.monotonic()
        try:
            async with self._session.post(self._url(path), headers=headers, data=body) as answer:
                content = await answer.read()
                return HttpReply(answer.status, _end_to_end(answer.headers), content, time.monotonic() - began)
        except (ClientError, TimeoutError, OSError) as error:
            return self._no_reply(error, time.monotonic() - began)

    def _no_reply(self, error: Exception, seconds: float) -> HttpReply:
        """No reply, with the reason in the form of Triton's errors."""
        reason = f"the router gets no answer from {self._upstream}: {str(error) or type(error).__name__}"
        return HttpReply(0, {}, json.dumps({"error": reason}).encode(), seconds)

    def _url(self, path: str) -> URL:
        """A path at the server, escaped as the caller wrote it."""
        return URL(f"http://{self._upstream}{path}", encoded=True)


def _end_to_end(headers: Any) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP)
