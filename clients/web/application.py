"""The page, and what it asks for besides Triton's own APIs: figures of the models, and an example for each.

A browser asks one origin only. Without a front door this application passes on what the page needs of Triton, and
nothing that loads models, reads memory or changes settings; behind a door it is the door that does so.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiohttp import ClientError, ClientSession, ClientTimeout, web
from aiohttp.typedefs import Handler

from clients.errors import InvalidInput
from clients.golden import read
from clients.web.files import Files
from clients.web.visitors import visitors

_SECONDS = 5.0
# Of the metrics, those about models and how fast they are: what else the host is doing is nobody's business.
_FIGURES = ("nv_inference_", "pytorch_compute_seconds_bucket")
_MODEL = r"/v2/models/[^/%]+(/versions/[0-9]+)?"
# What is open for callers at the front door (haproxy.cfg.j2), too; and the list of models, which is only read.
OPEN = {
    "GET": re.compile(rf"/v2(/health/(live|ready)|/models/stats)?|{_MODEL}(/(ready|config|stats))?"),
    "POST": re.compile(rf"/v2/repository/index|{_MODEL}/(infer|generate|generate_stream)"),
}


def add_page(
    application: web.Application,
    metrics: Sequence[str] = (),
    examples: Path | None = None,
    names: Sequence[str] | None = None,
) -> None:
    """Let an application answer / and /web, and no page of another site; before it routes anything else.

    Args:
        application: what is served.
        metrics: HOST:PORT of the metrics of each tritonserver.
        examples: a model repository, whose versions may have golden requests.
        names: by which browsers may ask, besides addresses and localhost; None for any name.
    """
    files, page = Files(), _Page(metrics, examples)
    application.middlewares.append(visitors(names))
    application.cleanup_ctx.append(page.connected)
    application.router.add_get("/", files.index)
    application.router.add_get("/web/metrics", page.figures)
    application.router.add_get("/web/examples/{model}/{version:[0-9]{1,20}}", page.example)
    application.router.add_get("/web/{digest}/{name}", files.file)


def add_triton(application: web.Application, passed_on: Handler) -> None:
    """Let an application answer what the page asks of Triton, by way of a handler that passes requests on."""

    async def guard(request: web.Request) -> web.StreamResponse:
        known = OPEN.get(request.method)
        if not known or not known.fullmatch(request.rel_url.raw_path):
            return _error(403, "this is not open here; ask Triton's own port")
        return await passed_on(request)

    application.router.add_route("*", "/v2{path:(/.*)?}", guard)


def _error(status: int, reason: str) -> web.Response:
    return web.json_response({"error": reason}, status=status)


@dataclass
class _Page:
    metrics: Sequence[str]
    examples: Path | None

    async def connected(self, _: web.Application) -> AsyncIterator[None]:
        async with ClientSession(timeout=ClientTimeout(_SECONDS)) as self._session:
            yield

    async def figures(self, _: web.Request) -> web.StreamResponse:
        """What the metrics of all servers say about models, one after the other; the page adds them up."""
        texts = await asyncio.gather(*map(self._figures, self.metrics))
        if not any(texts):
            return _error(502, f"no metrics come from {', '.join(self.metrics) or 'this server: they are off'}")
        return web.Response(text="".join(texts))

    async def _figures(self, address: str) -> str:
        try:
            async with self._session.get(f"http://{address}/metrics") as answer:
                lines = (await answer.text()).splitlines(keepends=True)
        except (ClientError, OSError, TimeoutError):
            return ""
        return "".join(line for line in lines if line.startswith(_FIGURES))

    async def example(self, request: web.Request) -> web.StreamResponse:
        """A golden request of a version, as the body of an inference with binary data; nothing where there is none."""
        from tritonclient.http import InferenceServerClient, InferInput
        from tritonclient.utils import np_to_triton_dtype

        model, version = request.match_info["model"], request.match_info["version"]
        # A name that is in the folder leads nowhere else.
        if not self.examples or not self.examples.is_dir() or model not in os.listdir(self.examples):
            return web.Response(status=204)
        try:
            golden = read(self.examples / model / version / "golden.npz")
        except InvalidInput as error:
            return _error(500, str(error))
        if golden is None or not golden.cases:
            return web.Response(status=204)
        tensors = [
            InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype)).set_data_from_numpy(array)
            for name, array in golden.cases[0].inputs.items()
        ]
        body, length = InferenceServerClient.generate_request_body(tensors)
        return web.Response(body=body, headers={"Inference-Header-Content-Length": str(length or len(body))})
