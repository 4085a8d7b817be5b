"""Whom an application with the page answers: programs, and its own page; the page of no other site.

A browser sends requests wherever any page that is open in it wants, and says which page that was. It does not tell a
site whose name leads to this host from one moment to the next (DNS rebinding) from our own: that shows in the name
by which it asks.
"""

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

_FOREIGN = "a page of another origin may not ask here"


def visitors(names: Collection[str] | None) -> Middleware:
    """A middleware that refuses other visitors.

    Args:
        names: by which one may ask, besides addresses and localhost; None for any name.
    """

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = _name_in(request.headers.get("Host", ""))
        if not (names is None or host in names or _is_this_host(host)):
            reason = f"'{host}' is no name of this page; allow it with --name {host} (beside a server: --web-name)"
        elif _is_foreign(request):
            reason = _FOREIGN
        else:
            return await handler(request)
        return web.json_response({"error": reason}, status=403)

    return answer


def _name_in(place: str) -> str:
    try:
        return urlsplit(f"//{place}").hostname or ""
    except ValueError:
        return "?"


def _is_this_host(host: str) -> bool:
    """Whether nobody can make a name of their own of this: browsers ask localhost, and addresses, for what they are."""
    if host in ("", "localhost") or host.endswith(".localhost"):
        return True
    try:
        return bool(ip_address(host))
    except ValueError:
        return False


def _is_foreign(request: web.Request) -> bool:
    headers = request.headers
    if site := headers.get("Sec-Fetch-Site"):
        # Anybody may have a link to the page.
        is_link = request.path == "/" and request.method == "GET" and headers.get("Sec-Fetch-Mode") == "navigate"
        return site not in ("none", "same-origin") and not is_link
    # Without TLS, browsers send it from this host only. The door says by which name it was asked.
    own = headers.get("X-Forwarded-Host") or headers.get("Host", "")
    return "Origin" in headers and headers["Origin"].partition("://")[2] != own
