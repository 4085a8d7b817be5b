"""The server that tests talk to: the real one, embedded, on a repository of theirs; or one that runs somewhere."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clients.connection import Connection, Protocol, at_port, host_and_port
from clients.errors import InvalidInput
from tools.serve.tritonserver import Options, Server

_STOP_S = 1.0  # Nobody waits for an answer any more.


@dataclass(frozen=True)
class Target:
    """Where it is: HOST:PORT for HTTP and gRPC; and its repository, if it is known."""

    http: str
    grpc: str
    repository: Path | None

    def connection(self, protocol: Protocol) -> Connection:
        """How to reach it."""
        return Connection(protocol, self.http if protocol == "http" else self.grpc)


@contextmanager
def serving(repository: Path, on_log: Callable[[str], None]) -> Iterator[Target]:
    """Serve a repository on free ports while the block lasts, and write nothing to it.

    Raises:
        ServerError: a model does not load; all its log is in the message.
    """
    if not repository.is_dir():
        raise InvalidInput(f"{repository} is no folder; give the model repository with --triton-repository")
    with tempfile.TemporaryDirectory(prefix="triton-tests-") as folder:
        served = _mirrored(repository, Path(folder) / "models")
        options = Options(served, verbose=True, auto_complete=True, on_log=on_log)
        with Server(options) as server:
            yield Target(server.http, server.grpc, repository)
            server.hurry(_STOP_S)


def _mirrored(repository: Path, folder: Path) -> Path:
    """A repository of links: what a server writes beside models (configs, bytecode) is not in somebody's sources."""
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    shutil.copytree(repository.resolve(), folder, ignore=ignored, copy_function=os.symlink)
    return folder


def running(http: str, grpc: str | None, repository: Path | None) -> Target:
    """A server that runs already; gRPC is at the next port by default, as in Triton's.

    Raises:
        InvalidInput: an address is none.
    """
    Connection("http", http)  # It says what is wrong with an address.
    found = Target(http, grpc or at_port(http, host_and_port(http)[1] + 1), repository)
    found.connection("grpc")
    return found
