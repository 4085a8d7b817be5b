"""Forks, threads, proxies and cancellations for the four clients, as a table: each answers rightly, or says why not."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest

from clients.connection import PROTOCOLS, Protocol
from tests.e2e.conditions import CELLS
from tests.e2e.peers import STYLES
from tools.repository import ROOT
from tools.serve.tritonserver import Server

OTHER_LOOP = "InvalidInput: an AsyncClient belongs to the event loop that opened it"
FORKED = "InvalidInput: this process was forked while its parent used gRPC"
PROXY = "; gRPC asks the proxy of $grpc_proxy (127.0.0.1:"
# What does not answer, and how it says so.
REFUSALS = {
    ("http asyncio", "the same client after a fork"): OTHER_LOOP,
    ("grpc asyncio", "the same client after a fork"): OTHER_LOOP,
    ("http asyncio", "one client in 8 threads"): OTHER_LOOP,
    ("grpc asyncio", "one client in 8 threads"): OTHER_LOOP,
    ("grpc asyncio", "forks during requests"): FORKED,
    ("grpc sync", "a fork during a long request"): FORKED,
    ("grpc asyncio", "a fork during a long request"): FORKED,
    **{
        (f"{protocol} {style}", "a proxy and another host"): "ServerUnavailable: no server answers at"
        for protocol in PROTOCOLS
        for style in STYLES
    },
}


@pytest.fixture(scope="module")
def table(server: Server) -> dict[str, dict[str, str]]:
    """The cells by client and condition."""

    def row(client: tuple[Protocol, str]) -> dict[str, str]:
        line = [sys.executable, "-W", "ignore", "-m", "tests.e2e.conditions", *client, server.address(client[0])]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, timeout=200, text=True)
        assert done.returncode == 0, done.stderr
        cells: dict[str, str] = json.loads(done.stdout)
        return cells

    clients = list(product(PROTOCOLS, STYLES))
    with ThreadPoolExecutor(2) as pool:  # Most of their time they wait.
        return {" ".join(client): cells for client, cells in zip(clients, pool.map(row, clients), strict=True)}


def test_each_client_answers_rightly_under_each_condition_or_says_why_not(table: dict[str, dict[str, str]]) -> None:
    print(
        "",
        *(f"{client:13} {cell:31} {said:.70}" for client, row in table.items() for cell, said in row.items()),
        sep="\n",
    )
    for client, row in table.items():
        for cell in CELLS:
            expected = REFUSALS.get((client, cell), "answers")
            # Now and then gRPC's own code crashes such a process before ours can refuse.
            allowed = (FORKED, "ended with -11") if expected == FORKED else (expected,)
            assert row[cell].startswith(allowed), (client, cell, row[cell])


@pytest.mark.parametrize("style", STYLES)
def test_an_error_names_the_proxy_without_its_password(table: dict[str, dict[str, str]], style: str) -> None:
    assert PROXY in table[f"grpc {style}"]["a proxy and another host"]
    assert "proxy" not in table[f"http {style}"]["a proxy and another host"]
    assert "secret" not in str(table)
