"""What each of the four clients does under a fork, threads, a proxy and cancellations: a row of a table.

    python -m tests.e2e.conditions http asyncio 127.0.0.1:8000

In a process of its own, because forks and gRPC's threads leave their mark. A cell is `answers`, or the error's words.
"""

import asyncio
import json
import os
import random
import signal
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

from clients.aio import AsyncClient
from clients.client import Client
from clients.connection import Connection, Protocol
from clients.contract import Array
from clients.errors import ClientError
from tests.e2e.peers import ask, listening, nobody, silence

MODEL, ROWS = "mnist_mlp", np.random.default_rng(0).normal(size=(64, 784)).astype(np.float32)
PROXIES = ("grpc_proxy", "https_proxy", "http_proxy", "no_proxy")
CELLS = (
    "another client after a fork",
    "the same client after a fork",
    "forks during requests",
    "a fork during a long request",
    "one client in 8 threads",
    "a client in each of 8 threads",
    "a proxy and loopback",
    "a proxy and another host",
    "50 cancelled requests",
)


class Row:
    """One kind of client."""

    def __init__(self, protocol: Protocol, style: str, address: str):
        self.connection, self.style = Connection(protocol, address, timeout_s=30), style
        self.expected = self.answer(ROWS)

    def answer(self, rows: Array) -> Array:
        """Ask a fresh client."""
        output: Array = ask(self.style, self.connection, "infer", MODEL, rows)["OUTPUT__0"]
        return output

    def right(self, number: int, output: Array) -> None:
        """Every answer must be that to its own question."""
        np.testing.assert_allclose(output, self.expected[number : number + 1], rtol=1e-3, atol=1e-4)

    def ask_afresh(self, number: int = 3) -> None:
        self.right(number, self.answer(ROWS[number : number + 1]))

    async def ask_open(self, client: AsyncClient, number: int) -> None:
        self.right(number, (await client.infer(MODEL, ROWS[number : number + 1]))["OUTPUT__0"])

    def using(self, use: Callable[[Callable[[int], None]], str]) -> str:
        """Give a function an open client, as a function that asks it for a row."""
        if self.style == "sync":
            with Client(self.connection) as client:
                return use(
                    lambda number: self.right(number, client.infer(MODEL, ROWS[number : number + 1])["OUTPUT__0"])
                )

        async def opened() -> str:
            async with AsyncClient(self.connection) as client:
                await self.ask_open(client, 0)
                return use(lambda number: asyncio.run(self.ask_open(client, number)))

        return asyncio.run(opened())

    def forked_afresh(self) -> str:
        return in_child(self.ask_afresh)

    def forked_same(self) -> str:
        def use(ask_row: Callable[[int], None]) -> str:
            if self.style == "sync":
                ask_row(1)
            said = in_child(lambda: ask_row(2))
            if self.style == "sync":
                ask_row(3)  # The parent goes on.
            return said

        return self.using(use)

    def forked_during(self) -> str:
        if self.style == "asyncio":
            return self.using(lambda _: in_child(self.ask_afresh))
        with Client(self.connection) as client, ThreadPoolExecutor(3) as pool:
            busy = [pool.submit(lambda: [client.infer(MODEL, ROWS) for _ in range(200)]) for _ in range(3)]
            heard = set()
            while not all(each.done() for each in busy):
                heard.add(in_child(self.ask_afresh))
            for each in busy:
                each.result()
        return " or ".join(sorted(heard))

    def forked_during_long(self) -> str:
        come = threading.Event()

        def keep(accepted: socket.socket, number: int) -> None:
            come.set()
            silence(accepted, number)

        with ThreadPoolExecutor(1) as pool, listening(keep) as address:
            endless = Connection(self.connection.protocol, address, timeout_s=60, retries=0)
            busy = pool.submit(lambda: said(lambda: ask("sync", endless, "server")))
            assert come.wait(30)
            heard = in_child(self.ask_afresh)
            assert not busy.done()
        return heard

    def shared_by_threads(self) -> str:
        def use(ask_row: Callable[[int], None]) -> str:
            def work(thread: int) -> None:
                for number in range(thread, len(ROWS), 8):
                    ask_row(number)

            with ThreadPoolExecutor(8) as pool:
                return said(lambda: list(pool.map(work, range(8))))

        return self.using(use)

    def one_for_each_thread(self) -> str:
        with ThreadPoolExecutor(8) as pool:
            return said(lambda: list(pool.map(self.ask_afresh, range(16))))

    def proxied_loopback(self) -> str:
        with proxied():
            return said(self.ask_afresh)

    def proxied_host(self) -> str:
        with proxied():
            # Only gRPC is refused at once, by the proxy; some networks answer nothing.
            seconds = 1 if self.connection.protocol == "http" else 30
            elsewhere = Connection(self.connection.protocol, "192.0.2.1:1", timeout_s=seconds, retries=0)
            return said(lambda: ask(self.style, elsewhere, "server"))

    def cancelled(self) -> str:
        moments = random.Random(0)
        if self.style == "asyncio":
            return said(lambda: asyncio.run(self._cancel_tasks(moments)))
        with Client(self.connection) as client:
            client.infer(MODEL, ROWS)
            # An inference over gRPC that is cancelled can end tritonserver 2.51; nothing else that is cancelled does.
            interruptible = client.server if self.connection.protocol == "grpc" else partial(client.infer, MODEL, ROWS)

            def interrupted() -> None:
                for number in range(50):
                    with suppress(KeyboardInterrupt):
                        # Once more after half a second: one that comes while an object is deleted is lost.
                        signal.setitimer(signal.ITIMER_REAL, moments.uniform(1e-4, 3e-3), 0.5)
                        while True:
                            interruptible()
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    self.right(number, client.infer(MODEL, ROWS[number : number + 1])["OUTPUT__0"])

            return said(interrupted)

    async def _cancel_tasks(self, moments: random.Random) -> None:
        async with AsyncClient(self.connection) as client:
            for number in range(50):
                tasks = [asyncio.create_task(client.infer(MODEL, ROWS)) for _ in range(4)]
                await asyncio.sleep(moments.uniform(1e-4, 3e-3))
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await self.ask_open(client, number)

    def cells(self) -> list[str]:
        """The row, in the order of CELLS."""
        methods = (self.forked_afresh, self.forked_same, self.forked_during, self.forked_during_long)
        more = (
            self.shared_by_threads,
            self.one_for_each_thread,
            self.proxied_loopback,
            self.proxied_host,
            self.cancelled,
        )
        return [method() for method in (*methods, *more)]


def said(work: Callable[[], Any]) -> str:
    """`answers`, or our error's words; any other error is not caught."""
    try:
        work()
    except ClientError as error:
        return f"{type(error).__name__}: {error}"
    return "answers"


def in_child(work: Callable[[], Any]) -> str:
    """What is said in a forked process; one that hangs is ended."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(30)
        try:
            os.write(writing, said(work).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    return text or f"ended with {os.waitstatus_to_exitcode(status)}"


class proxied:  # noqa: N801
    """A proxy in the environment at which nothing listens."""

    def __enter__(self) -> None:
        self.before = dict(os.environ)
        dead = f"http://user:secret@{nobody()}"
        os.environ.update(dict.fromkeys(PROXIES[:3], dead))
        os.environ.pop("no_proxy", None)
        os.environ.pop("NO_PROXY", None)

    def __exit__(self, *_: object) -> None:
        for name in PROXIES:
            os.environ.pop(name, None)
        os.environ.update(self.before)


def main() -> None:
    """Print one row as JSON."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, interrupt)
    protocol, style, address = sys.argv[1:]
    row = Row("http" if protocol == "http" else "grpc", style, address)
    print(json.dumps(dict(zip(CELLS, row.cells(), strict=True))))


if __name__ == "__main__":
    main()
