"""Constant load of both protocols on the replicas that say that they take requests."""

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
_TIMEOUT_S = 5.0
# The address for the next request; None where nobody takes any.
Choose = Callable[[Protocol], str | None]


@dataclass
class Tally:
    """What callers saw: answers, failures by message, and requests that nobody took."""

    right: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def failed(self) -> int:
        """How many requests failed."""
        return sum(self.failures.values())


@contextmanager
def constant_load(choose: Choose) -> Iterator[Tally]:
    """Send requests one after the other over each protocol for as long as the block lasts."""
    tally, stop = Tally(), threading.Event()
    callers = [threading.Thread(target=_call, args=(choose, protocol, tally, stop)) for protocol in PROTOCOLS]
    for caller in callers:
        caller.start()
    try:
        yield tally
    finally:
        stop.set()
        for caller in callers:
            caller.join()


def _call(choose: Choose, protocol: Protocol, tally: Tally, stop: threading.Event) -> None:
    number, client = np.array([[21.0]], np.float32), Client(Connection(protocol, "none:1", _TIMEOUT_S, 0))
    while not stop.is_set():
        address = choose(protocol)
        if address is None:
            tally.failures[f"{protocol}: nobody takes requests"] += 1
        elif address != client.connection.url:
            # A connection that is kept open would hold its server up when that is to end.
            client.close()
            client = Client(Connection(protocol, address, _TIMEOUT_S, 0))
        if address:
            _ask(client, number, tally)
        time.sleep(_PAUSE_S)
    client.close()


def _ask(client: Client, number: Array, tally: Tally) -> None:
    try:
        (answer,) = client.infer(models.NAME, number)["Y"].ravel()
    except ClientError as error:
        tally.failures[f"{client.connection.protocol}: {type(error).__name__}"] += 1
    else:
        is_right = bool(answer == 42)
        tally.right += is_right
        tally.failures[f"{client.connection.protocol}: wrong"] += not is_right
