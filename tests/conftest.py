"""What tests share: a real tritonserver on a copy of the built repository, clients, and commands as people run them.

`make test` builds the models first. Nothing here is a stand-in for a part that can run on this host.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from clients.client import Client
from clients.connection import PROTOCOLS, Connection, Protocol
from tests.interpreter import Interpreter
from tools import recipes
from tools.repository import REPOSITORY, ROOT, versions
from tools.serve.tritonserver import Options, Server

Command = Callable[..., subprocess.CompletedProcess[str]]


def pytest_configure() -> None:
    """Give each of our processes one thread of torch's: on busy cores, two that wait for each other cost far more."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def built() -> Path:
    """The repository of the working tree, with a version of every model that `make build` makes."""
    missing = [model for model in recipes.names() if recipes.load(model).default and not versions(model)]
    if missing:
        pytest.exit(f"no version of {', '.join(missing)}; run `make test`, or `make build` first", returncode=2)
    return REPOSITORY


def copied(built: Path, folder: Path) -> Path:
    """A copy in which models that `make build` leaves out have no version, whatever somebody has made beside them."""
    others = {str(built / name) for name in recipes.names() if not recipes.load(name).default}

    def versions_of_others(place: str, names: list[str]) -> list[str]:
        return [name for name in names if place in others and name.isdigit()]

    return Path(shutil.copytree(built, folder, ignore=versions_of_others))


@pytest.fixture(scope="session")
def repository(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the built repository, which the session's server serves; tests do not write to it."""
    return copied(built, tmp_path_factory.mktemp("served") / "model_repository")


@pytest.fixture
def scratch_repository(built: Path, tmp_path: Path) -> Path:
    """A copy of the built repository for one test to change."""
    return copied(built, tmp_path / "model_repository")


@contextmanager
def served(options: Options) -> Iterator[Server]:
    """A server that is killed at the end: to stop in good order takes seconds, and is proven in test_serve.py."""
    with Server(options) as running:
        try:
            yield running
        finally:
            running.kill()


@pytest.fixture(scope="session")
def server(repository: Path) -> Iterator[Server]:
    """The session's tritonserver, on free ports; it fails at once, with its log, when it cannot start."""
    with served(Options(repository)) as running:
        yield running


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> Protocol:
    """Either protocol, in turn."""
    chosen: Protocol = request.param
    return chosen


def connection_to(server: Server, protocol: Protocol) -> Connection:
    """A server's address for one protocol."""
    return Connection(protocol, server.address(protocol))


@pytest.fixture
def connection(server: Server, protocol: Protocol) -> Connection:
    """The session's server over either protocol."""
    return connection_to(server, protocol)


@pytest.fixture
def client(connection: Connection) -> Iterator[Client]:
    """A client of the session's server over either protocol."""
    with Client(connection) as opened:
        yield opened


@pytest.fixture(scope="session")
def interpreter() -> Iterator[Interpreter]:
    """What commands are forked from."""
    with closing(Interpreter()) as running:
        yield running


@pytest.fixture
def command(interpreter: Interpreter) -> Command:
    """Run `python -m MODULE ARGUMENT…` in the repository's root as a person would; `server` sets its addresses."""

    def run(
        module: str, *arguments: str | Path, server: Server | None = None, timeout: float = 120, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        addresses = {"TRITON_HTTP_URL": server.http, "TRITON_GRPC_URL": server.grpc} if server else {}
        words = map(str, arguments)
        return interpreter.run(module, *words, cwd=ROOT, timeout=timeout, variables={**addresses, **variables})

    return run
