"""`python -m clients.router` as a process that ends with this one; as such, it serves OpenAI's API beside a server."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from clients.errors import ToolError
from clients.installation import module_line
from clients.lifetime import leashed
from tools.repository import ROOT
from tools.serve.ports import numeric_host


class RouterError(ToolError):
    """The router does not start or answer, has ended, or refuses a trial; its own words say why."""


@dataclass(frozen=True)
class RouterProcess:
    """A running router, and where it listens: HOST:PORT by the name of the option."""

    process: "subprocess.Popen[str]"
    addresses: Mapping[str, str]

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
def openai_api(grpc: str, host: str, port: int | None) -> Iterator[RouterProcess | None]:
    """Serve OpenAI's API at a port, by way of a server's gRPC address; without a port, do nothing."""
    if port is None:
        yield None
        return
    if not grpc:
        raise RouterError("--openai-port goes through gRPC, which --allow-grpc turns off")
    with router_process("--openai-only", "--grpc", grpc, "--listen", f"{numeric_host(host)}:{port}") as running:
        yield running
