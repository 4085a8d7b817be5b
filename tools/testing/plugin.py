"""Fixtures for tests of a Triton model repository; pytest loads this file at every start, so it imports nothing heavy.

pytest -p tools.testing.plugin --triton-repository models
pytest -p tools.testing.plugin --triton-real                   # model.py files on the real server
pytest -p tools.testing.plugin --triton-url 127.0.0.1:8000     # a server that runs already
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from clients.client import Client
    from clients.connection import Protocol
    from tools.testing.on_server import Bench
    from tools.testing.program import Play
    from tools.testing.python_model import PythonModel
    from tools.testing.served_model import ServedModel
    from tools.testing.target import Target

# The servers' logs since a test began.
_LOG: pytest.StashKey[list[str]] = pytest.StashKey()
_LATE_S = 0.1  # How much later than an answer a line of the log may come.


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("triton", "Triton model repositories")
    group.addoption("--triton-repository", metavar="DIR", help="the repository (default: triton_repository in the ini)")
    group.addoption("--triton-url", metavar="HOST:PORT", help="HTTP address of a server that runs already")
    group.addoption("--triton-grpc-url", metavar="HOST:PORT", help="its gRPC address (default: the next port)")
    group.addoption("--triton-record", action="store_true", help="record the answers that assert_golden compares")
    group.addoption("--triton-real", action="store_true", help="run model.py files on the real server, not in process")
    parser.addini("triton_repository", "the Triton model repository, relative to this file")


def pytest_configure(config: pytest.Config) -> None:
    """Begin an empty log."""
    config.stash[_LOG] = []


def _keep(config: pytest.Config) -> Callable[[str], None]:
    def keep(line: str) -> None:
        if line[0] not in "+|":  # tables of options
            config.stash[_LOG].append(line)

    return keep


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what is tested, if anything is."""
    where = config.getoption("triton_url") or _repository(config)
    speed = "on the real server" if config.getoption("triton_real") else "in process"
    return [f"triton: {where}; model.py files {speed}"] if where else []


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin the log anew."""
    item.config.stash[_LOG].clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the server's log to the report of a test that fails."""
    report = yield
    if report.failed and any(name.startswith("triton_") for name in getattr(item, "fixturenames", ())):
        time.sleep(_LATE_S)
        if lines := item.config.stash[_LOG]:
            report.sections.append(("Triton's log", "\n".join(lines)))
    return report


def _repository(config: pytest.Config) -> Path | None:
    if given := config.getoption("triton_repository"):
        return Path(given).absolute()
    named = config.getini("triton_repository")
    return (config.inipath.parent if config.inipath else config.rootpath) / named if named else None


@pytest.fixture(scope="session")
def triton_server(pytestconfig: pytest.Config) -> Iterator[Target]:
    """The server under test: addresses `http` and `grpc`. Under xdist, each worker has its own."""
    from clients.errors import ToolError
    from tools.testing.target import running, serving

    repository, url = _repository(pytestconfig), pytestconfig.getoption("triton_url")
    if url:
        yield running(url, pytestconfig.getoption("triton_grpc_url"), repository)
    elif repository is None:
        pytest.fail("no repository: set triton_repository in pytest.ini, or give --triton-repository", pytrace=False)
    else:
        with ExitStack() as stack:
            try:
                target = stack.enter_context(serving(repository, _keep(pytestconfig)))
            except ToolError as error:
                # `pytest.fail` would show the error twice.
                raise pytest.fail.Exception(str(error), pytrace=False) from None
            yield target


@pytest.fixture(scope="session")
def triton_client(triton_server: Target) -> Iterator[Callable[..., Client]]:
    """`triton_client("grpc")`: a client of the server over one protocol; HTTP by default."""
    from clients.client import Client

    opened: dict[str, Client] = {}
    with ExitStack() as stack:

        def client(protocol: Protocol = "http") -> Client:
            if protocol not in opened:
                opened[protocol] = stack.enter_context(Client(triton_server.connection(protocol)))
            return opened[protocol]

        yield client


@pytest.fixture
def triton_model(
    request: pytest.FixtureRequest, triton_server: Target, triton_client: Callable[..., Client]
) -> Callable[..., ServedModel]:
    """`triton_model("name")`: a model of the server, with assertions."""
    from tools.testing.served_model import ServedModel

    def model(name: str, protocol: Protocol = "http") -> ServedModel:
        test = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in request.node.name)
        golden = request.path.parent / "golden" / f"{request.path.stem}.{test}.{name}.npz"
        is_recording = request.config.getoption("triton_record")
        return ServedModel(name, triton_client(protocol), triton_server, golden, is_recording)

    return model


@pytest.fixture(scope="session")
def _triton_bench(pytestconfig: pytest.Config) -> Iterator[Bench]:
    from tools.testing.on_server import Bench

    with Bench(_keep(pytestconfig)) as bench:
        yield bench


@pytest.fixture
def triton_python_model(request: pytest.FixtureRequest) -> Iterator[Callable[..., PythonModel]]:
    """`triton_python_model("models/double/1/model.py")`: a model.py, in process or, with --triton-real, on the server.

    `config` is used in place of its config.pbtxt; `models` are functions that answer its requests to other models.
    """
    from tools.testing.in_process import in_process
    from tools.testing.program import read_program

    with ExitStack() as stack:

        def model(
            path: str | Path, config: str | None = None, models: Mapping[str, Play] | None = None, timeout_s: float = 30
        ) -> PythonModel:
            program = read_program(request.config.rootpath / path, config, models or {})
            opened = in_process
            if request.config.getoption("triton_real"):
                opened = request.getfixturevalue("_triton_bench").model
            return stack.enter_context(opened(program, timeout_s))

        yield model


@pytest.fixture(scope="session")
def triton_error() -> Any:
    """The class of all that a model or a server refuses, for `pytest.raises`."""
    from clients.errors import ClientError

    return ClientError
