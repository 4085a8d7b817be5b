"""Every test here must leave the server that it talked to alive."""

from collections.abc import Iterator

import pytest

from clients.client import Client
from clients.connection import Connection
from tools.serve.tritonserver import Server


@pytest.fixture(autouse=True)
def server_lives_on(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test that used the session's server: its process runs and says that it is ready."""
    yield
    if "server" in request.fixturenames:
        server: Server = request.getfixturevalue("server")
        server.check()
        with Client(Connection("http", server.http)) as client:
            assert client.is_ready()
