"""The files of the page, as they are sent: held in memory, compressed once, and named after what is in them.

The modules lie at /web/DIGEST/, where DIGEST is that of all files, so that a browser keeps them for ever and a new
release has other addresses. Only the page itself is asked for anew, by its ETag.
"""

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from clients.installation import PACKAGE

FOLDER = Path(__file__).parent / "page"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# Nothing inline, nothing from elsewhere, in nobody's frame.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class File:
    """A file as it is sent."""

    kind: str
    body: bytes
    packed: bytes


class Files:
    """All files of the page."""

    def __init__(self, folder: Path = FOLDER):
        contents = {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.suffix in _TYPES}
        self._digest = hashlib.sha256(b"\0".join((PACKAGE.encode(), *contents.values()))).hexdigest()[:16]
        modules = "".join(f'<link rel="modulepreload" href="/web/DIGEST/{name}">' for name in contents if ".js" in name)
        index = contents.pop("index.html").decode().replace("MODULES", modules)
        index = index.replace("DIGEST", self._digest).replace("PACKAGE", PACKAGE)
        self._index = _file("index.html", index.encode())
        self._files = {name: _file(name, content) for name, content in contents.items()}

    async def index(self, request: web.Request) -> web.StreamResponse:
        """Answer with the page; with nothing, if the caller has this one."""
        tag = f'"{self._digest}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=headers)
        return _sent(request, self._index, headers)

    async def file(self, request: web.Request) -> web.StreamResponse:
        """Answer with one of its files."""
        file = self._files.get(request.match_info["name"])
        if file is None or request.match_info["digest"] != self._digest:
            raise web.HTTPNotFound
        return _sent(request, file, {"Cache-Control": "public, max-age=31536000, immutable"})


def _file(name: str, content: bytes) -> File:
    return File(f"{_TYPES[Path(name).suffix]}; charset=utf-8", content, gzip.compress(content, mtime=0))


def _sent(request: web.Request, file: File, headers: dict[str, str]) -> web.Response:
    headers = {**HEADERS, **headers, "Content-Type": file.kind, "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        return web.Response(body=file.packed, headers={**headers, "Content-Encoding": "gzip"})
    return web.Response(body=file.body, headers=headers)
