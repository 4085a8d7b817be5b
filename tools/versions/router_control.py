"""The control address of a router (`clients.router`): begin a trial, read its evidence, end it; or start a router."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from tools.serve.router_process import RouterError, router_process

ANY_PORT = "127.0.0.1:0"


Trial = dict[str, Any]  # as `clients.router.trial` describes it


@dataclass(frozen=True)
class Router:
    """A running router: its control address, and its callers' where they are known; methods raise RouterError."""

    control: str
    listen: str | None = None
    listen_grpc: str | None = None

    def begin(self, model: str, terms: Mapping[str, Any]) -> None:
        """Begin a trial on a model's traffic; `clients.router.trial.Terms` lists the terms."""
        self._ask("PUT", model, terms)

    def trial(self, model: str) -> Trial | None:
        """Read the evidence so far; None where there is no trial."""
        trials: dict[str, Trial] = self._ask("GET")
        return trials.get(model)

    def end(self, model: str) -> Trial:
        """End a trial once none of its requests is in flight; returns its evidence."""
        trial: Trial = self._ask("DELETE", model)
        return trial

    def _ask(self, method: str, model: str = "", body: Mapping[str, Any] | None = None) -> Any:
        url = f"http://{self.control}/trials{'/' * bool(model)}{model}"
        content = json.dumps(body).encode() if body else None
        request = Request(url, content, {"Content-Type": "application/json"}, method=method)
        try:
            # The environment's proxy is not for addresses of our own.
            with build_opener(ProxyHandler({})).open(request, timeout=60) as response:
                return json.load(response)
        except HTTPError as error:
            raise RouterError(f"the router at {self.control} refused: {error.read().decode()}") from error
        except OSError as error:
            remedy = "start one with `python -m clients.router`"
            raise RouterError(f"no router answers at {self.control} ({error}); {remedy}") from error


@contextmanager
def started_router(upstream: str, grpc: str, listen: str = ANY_PORT, listen_grpc: str = ANY_PORT) -> Iterator[Router]:
    """Run a router in front of a server's HTTP and gRPC addresses while the block lasts.

    Raises:
        RouterError: it cannot start.
    """
    options = ("--upstream", upstream, "--grpc", grpc, "--listen", listen, "--listen-grpc", listen_grpc)
    with router_process(*options, "--control", ANY_PORT) as running:
        yield Router(**running.addresses)
