"""Whether a replica may take requests, by what its watchdog has seen since the server's start."""

import asyncio
import copy
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tools.serve.journal import Journal
from tools.serve.tritonserver import Server
from tools.serve.watchdog import Care, Surroundings, Watchdog

MODEL = "mnist_mlp"


@pytest.fixture
def watchdog(repository: Path, tmp_path: Path) -> Watchdog:
    """Of the session's server, for one of its models."""
    (tmp_path / MODEL).symlink_to(repository / MODEL)
    around = Surroundings("replica0", tmp_path, lambda: None, nullcontext, lambda: None, lambda: False)
    return Watchdog(around, Care(interval_s=0.1, patience_s=20), Journal(write=lambda line: None))


def watch(watchdog: Watchdog, server: Server, until: Callable[[], bool] = lambda: True) -> None:
    """Watch a server's life from its start, until something holds after the first looks."""

    async def look() -> None:
        watching = asyncio.create_task(watchdog.watch(server))
        await asyncio.sleep(0)
        while not until():
            assert not watching.done(), watching.exception()
            await asyncio.sleep(0.02)
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching

    asyncio.run(asyncio.wait_for(look(), 30))


def test_a_server_that_starts_anew_must_answer_rightly_again(watchdog: Watchdog, server: Server) -> None:
    assert not watchdog.is_satisfied
    watch(watchdog, server, lambda: watchdog.is_satisfied)
    watch(watchdog, server)
    assert watchdog.is_satisfied
    another_life = copy.copy(server)
    watch(watchdog, another_life)
    assert not watchdog.is_satisfied
    watch(watchdog, another_life, lambda: watchdog.is_satisfied)


def test_nothing_is_waited_for_where_no_model_is_there_to_be_asked(watchdog: Watchdog, server: Server) -> None:
    (watchdog._around.repository / MODEL).unlink()
    watch(watchdog, server, lambda: watchdog.is_satisfied)


def test_nothing_is_waited_for_where_nobody_can_ask(watchdog: Watchdog, server: Server) -> None:
    closed = copy.copy(server)
    closed.endpoints = replace(server.endpoints, http="", grpc="")
    watch(watchdog, closed, lambda: watchdog.is_satisfied)
