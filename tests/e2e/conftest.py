"""Every test here must leave the server that it talked to alive; and a server with the language model alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.client import Client
from clients.connection import Connection
from tests.e2e.language import MODEL
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
def language_server(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the language model alone."""
    pytest.importorskip("openvino_genai", reason="the dependency group lm is not installed")
    if not versions(MODEL, built):
        pytest.skip(f"no version of {MODEL}; run `make demo-lm`")
    models = tmp_path_factory.mktemp("language")
    # Hundreds of megabytes, which nobody changes.
    (models / MODEL).symlink_to(built / MODEL)
    with Server(Options(models)) as running:
        yield running
