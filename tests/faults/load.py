"""Constant load of both protocols, on the front door or on the replicas that say that they take requests."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from clients.client import Client
from clients.connection import PROTOCOLS, Connection, Protocol
from clients.contract import Array
from clients.errors import ClientError
from tests.faults import models

_PAUSE_S = 0.01
# Where to send the next request; None where nobody takes any.
Choose = Callable[[Protocol], Connection | None]


@dataclass
class Tally:
    """What callers saw: answers, failures by message, requests that nobody took, and the longest time of one."""

    right: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    longest_s: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def failed(self) -> int:
        """How many requests failed."""
        return sum(self.failures.values())


@contextmanager
def constant_load(choose: Choose, callers: int = 1) -> Iterator[Tally]:
    """Have so many callers of each protocol send requests one after the other for as long as the block lasts."""
    tally, stop = Tally(), threading.Event()
    threads = [threading.Thread(target=_call, args=(choose, protocol, tally, stop)) for protocol in PROTOCOLS * callers]
    for thread in threads:
        thread.start()
    try:
        yield tally
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _call(choose: Choose, protocol: Protocol, tally: Tally, stop: threading.Event) -> None:
    number, client = np.array([[21.0]], np.float32), Client(Connection(protocol, "none:1"))
    while not stop.is_set():
        connection = choose(protocol)
        if connection is None:
            tally.failures[f"{protocol}: nobody takes requests"] += 1
        elif connection != client.connection:
            # A connection that is kept open would hold its server up when that is to end.
            client.close()
            client = Client(connection)
        if connection:
            _ask(client, number, tally)
        time.sleep(_PAUSE_S)
    client.close()


def _ask(client: Client, number: Array, tally: Tally) -> None:
    began, problem = time.monotonic(), ""
    try:
        (answer,) = client.infer(models.NAME, number)["Y"].ravel()
        problem = "" if answer == 42 else "wrong"
    except ClientError as error:
        problem = type(error).__name__
    with tally.lock:
        tally.right += not problem
        if problem:
            tally.failures[f"{client.connection.protocol}: {problem}"] += 1
        tally.longest_s = max(tally.longest_s, time.monotonic() - began)
