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

_CONNECTING_S = 30.0
# Requests that name a version are passed on: they mean that one.
_INFER = re.compile(r"/v2/models/([^/]+)/infer")
# Headers that belong to one connection, not to the message (RFC 9110, 7.6.1), or are computed anew.
_HOP_BY_HOP = frozenset(
    ("connection", "expect", "host", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade")
)


class HttpRouter:
    """Passes requests on to a server, HOST:PORT; used within `async with`, which opens the connections to it.

    Callers decide how long they wait; requests of a trial, which go on without their callers, have `timeout_s`.
    """

    def __init__(self, upstream: str, trials: Trials, timeout_s: float):
        self._upstream, self._trials, self._timeout_s = upstream, trials, timeout_s

    async def __aenter__(self) -> "HttpRouter":
        # Bodies pass as they are, compressed or not; callers limit the number of connections.
        timeout, connector = ClientTimeout(sock_connect=_CONNECTING_S), TCPConnector(limit=0)
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
        # What is compressed cannot be looked into.
        if match and request.method == "POST" and self._trials.running and "Content-Encoding" not in request.headers:
            trial = self._trials.for_request(unquote(match[1]), await request.read())
            if trial:
                return await self._try_candidate(trial, request)
        return await self._pass_through(request)

    async def _try_candidate(self, trial: Trial, request: web.Request) -> web.Response:
        """Ask the model and the candidate at once."""
        body, headers = await request.read(), _end_to_end(request.headers)
        model = self._ask(request.rel_url.raw_path_qs, headers, body)
        candidate = self._ask(f"/v2/models/{quote(trial.terms.candidate)}/infer", headers, body)
        reply = await self._trials.answer(trial, model, candidate)
        if not reply.status:
            return _bad_gateway(reply.body)
        headers = CIMultiDict((name, value) for name, value in reply.headers.items() if name != "Content-Length")
        return web.Response(status=reply.status, headers=headers, body=reply.body)

    async def _pass_through(self, request: web.Request) -> web.StreamResponse:
        """Ask the server, and stream its answer."""
        body, response = await request.read() or None, None
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
            if response is None or not response.prepared:
                return _bad_gateway(self._reason(error))
            # A status went out already: that the rest is missing is told by a connection that breaks off.
            if request.transport:
                request.transport.abort()
            return response

    async def _ask(self, path: str, headers: CIMultiDict[str], body: bytes) -> HttpReply:
        began, timeout = time.monotonic(), ClientTimeout(self._timeout_s)
        try:
            async with self._session.post(self._url(path), headers=headers, data=body, timeout=timeout) as answer:
                content = await answer.read()
                return HttpReply(answer.status, _end_to_end(answer.headers), content, time.monotonic() - began)
        except (ClientError, TimeoutError, OSError) as error:
            return HttpReply(0, {}, self._reason(error), time.monotonic() - began)

    def _reason(self, error: Exception) -> bytes:
        """Why there is no answer, in the form of Triton's errors."""
        reason = f"the router gets no answer from {self._upstream}: {str(error) or type(error).__name__}"
        return json.dumps({"error": reason}).encode()

    def _url(self, path: str) -> URL:
        """A path at the server, escaped as the caller wrote it."""
        return URL(f"http://{self._upstream}{path}", encoded=True)


def _bad_gateway(reason: bytes) -> web.Response:
    return web.Response(status=502, body=reason, content_type="application/json")


def _end_to_end(headers: Any) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP)
