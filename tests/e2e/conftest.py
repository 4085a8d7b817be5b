"""Every test here must leave the server that it talked to alive; and a server with the language model alone."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.client import Client
from clients.connection import Connection
from tests.conftest import served
from tests.language.tiny import MODEL, served_tiny
from tools.repository import versions
from tools.serve.tritonserver import Options, Server


@pytest.fixture(autouse=True)
def server_lives_on(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test that used one of the session's servers: its process runs and says that it is ready."""
    yield
    for name in {"server", "language_server"} & set(request.fixturenames):
        server: Server = request.getfixturevalue(name)
        server.check()
        with Client(Connection("http", server.http)) as client:
            assert client.is_ready()


@pytest.fixture(scope="session")
def language_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a language model of random weights, which all processes of a run share."""
    for package in ("openvino_genai", "transformers"):
        pytest.importorskip(package, reason="needs the dependency group lm-export (`make lm`)")
    folder = tmp_path_factory.getbasetemp()
    return served_tiny((folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "language")


@pytest.fixture(scope="session")
def language_server(language_models: Path) -> Iterator[Server]:
    """A server with the language model alone."""
    with served(Options(language_models)) as running:
        yield running


@pytest.fixture(scope="module")
def trained_language_server(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the exported language model alone, where somebody has exported it."""
    pytest.importorskip("openvino_genai", reason="needs the dependency group lm (`make lm`)")
    if not versions(MODEL, built):
        pytest.skip(f"no version of {MODEL}; run `make demo-lm`")
    models = tmp_path_factory.mktemp("trained")
    # Hundreds of megabytes, which nobody changes.
    (models / MODEL).symlink_to(built / MODEL)
    with served(Options(models)) as running:
        yield running
