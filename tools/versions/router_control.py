"""A running router and its control address: begin a trial, read its evidence, end it; or a router of one's own."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from clients.errors import ToolError
from tools.repository import ROOT

# The environment's proxy is not for addresses of our own.
OPENER = build_opener(ProxyHandler({}))
Document = dict[str, Any]


class RouterError(ToolError):
    """The router does not answer, or refuses a trial; its own words say why."""


@dataclass(frozen=True)
class Router:
    """A running router: its control address, and the callers' where it is known."""

    control: str
    listen: str | None = None

    def ask(self, method: str, model: str = "", body: Document | None = None) -> Document:
        """One request to its control address.

        Raises:
            RouterError: it refuses, or nothing answers.
        """
        url = f"http://{self.control}/trials{'/' * bool(model)}{model}"
        content = json.dumps(body).encode() if body else None
        request = Request(url, content, {"Content-Type": "application/json"}, method=method)
        try:
            with OPENER.open(request, timeout=60) as answer:
                document: Document = json.load(answer)
        except HTTPError as error:
            raise RouterError(f"the router at {self.control} refuses: {error.read().decode()}") from error
        except OSError as error:
            raise RouterError(
                f"no router answers at {self.control} ({error}); start one with `python -m clients.router`"
            ) from error
        return document


@contextmanager
def router_of_its_own(upstream: str, listen: str) -> Iterator[Router]:
    """A router in front of a server for as long as the block lasts."""
    command = [sys.executable, "-m", "clients.router", "--upstream", upstream, "--listen", listen]
    process = subprocess.Popen([*command, "--control", "127.0.0.1:0"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RouterError("the router does not start; see its message above")
        yield Router(**json.loads(line))
    finally:
        process.terminate()
        process.wait()
        if process.stdout:
            process.stdout.close()
