"""`python -m clients.router` as a process that ends with this one; as such, it serves a page and OpenAI's API."""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clients.errors import ToolError
from clients.installation import module_line
from clients.lifetime import leashed
from tools.ports import numeric_host
from tools.repository import ROOT


class RouterError(ToolError):
    """The router does not start or answer, has ended, or refuses a trial; its own words say why."""


@dataclass(frozen=True)
class RouterProcess:
    """A running router, and where it listens: HOST:PORT by the name of the option."""

    process: "subprocess.Popen[str]"
    addresses: Mapping[str, str]

    @property
    def page_url(self) -> str:
        """Where people try the models."""
        return f"http://{self.addresses['listen']}/"

    @property
    def openai_url(self) -> str:
        """The base that OpenAI's clients take."""
        return f"http://{self.addresses['listen']}/v1"

    def check(self) -> None:
        """Raise RouterError if the router has ended."""
        if self.process.poll() is not None:
            raise RouterError(f"the router ended with exit code {self.process.returncode}")


@contextmanager
def router_process(*options: str) -> Iterator[RouterProcess]:
    """Run a router with these options while the block lasts; raises RouterError if it cannot start."""
    line = leashed(module_line("clients.router", *options))
    # A session of its own: Ctrl-C in a terminal reaches this process, which then ends it.
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as child:
        try:
            assert child.stdout is not None
            addresses = child.stdout.readline()
            if not addresses:
                raise RouterError("the router did not start; its message is above")
            yield RouterProcess(child, json.loads(addresses))
        finally:
            child.terminate()


@contextmanager
def web_application(
    host: str,
    port: int | None,
    http: str,
    grpc: str,
    metrics: Sequence[str] = (),
    examples: Path | None = None,
    names: Sequence[str] = (),
) -> Iterator[RouterProcess | None]:
    """Serve the page and OpenAI's API at a port, by way of a server's addresses; without a port, do nothing.

    Args:
        host: address or name to listen at.
        port: 0 for any free one.
        http: the server's.
        grpc: the server's.
        metrics: of each server, whose figures the page adds up.
        examples: a model repository with golden requests.
        names: by which callers may ask, besides addresses and `host`.
    """
    if port is None:
        yield None
        return
    if not (http and grpc):
        raise RouterError(
            "--web-port goes through HTTP and gRPC, of which one is off; leave both on, or drop --web-port"
        )
    addresses = ("--upstream", http, "--grpc", grpc, "--listen", f"{numeric_host(host)}:{port}")
    more = ("--examples", str(examples)) if examples else ()
    named = [f"--name={name}" for name in (host, *names)]
    with router_process("--page", *addresses, *more, *named, "--metrics", *filter(None, metrics)) as running:
        yield running
