"""The documentation works: its commands and its code run against the session's servers."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.language import MODEL
from tests.pages import pages
from tools.repository import ROOT
from tools.serve.tritonserver import Server


def numbered(*languages: str) -> list[object]:
    """The blocks of all pages in order, each with the page's name and its number there."""
    return [
        pytest.param(block, "language_server" if MODEL in block else "server", id=f"{page.name}-{number}")
        for page in pages()
        for number, block in enumerate(page.blocks(*languages), 1)
    ]


def addressed(server: Server, text: str) -> str:
    """The text with the addresses of the session's server in place of the usual ones."""
    return text.replace("127.0.0.1:8000", server.http).replace("127.0.0.1:8001", server.grpc)


def run(command: list[str], server: Server) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    addresses = {"TRITON_HTTP_URL": server.http, "TRITON_GRPC_URL": server.grpc}
    env = {**os.environ, **addresses, "PATH": path, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, f"{command}:\n{result.stdout[-2000:]}{result.stderr[-2000:]}"
    return result.stdout


@pytest.fixture(autouse=True)
def earlier_blocks() -> None:
    """What a reader has made by the time that a block is read, whichever is run here."""
    (ROOT / "build" / "brought").mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize(("block", "name"), numbered("bash"))
def test_a_block_of_commands_runs(block: str, name: str, request: pytest.FixtureRequest) -> None:
    if "curl " in block and not shutil.which("curl"):
        pytest.skip("curl is not on PATH")
    server: Server = request.getfixturevalue(name)
    assert run(["bash", "-euo", "pipefail", "-c", addressed(server, block)], server)


@pytest.mark.parametrize(("block", "name"), numbered("python"))
def test_a_block_of_python_runs(block: str, name: str, request: pytest.FixtureRequest) -> None:
    server: Server = request.getfixturevalue(name)
    assert run([sys.executable, "-W", "error", "-c", addressed(server, block)], server)
