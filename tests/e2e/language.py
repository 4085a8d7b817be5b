"""A server with the language model alone, and what its metrics say is running."""

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from tests.language.asking import metrics
from tests.language.tiny import MODEL as MODEL
from tests.waiting import SOON_S, settled, soon
from tools.serve.tritonserver import Server

# Longer than any test waits.
LONG = {"max_tokens": 8000, "ignore_eos": True}


def metric(server: Server, name: str) -> float:
    """The value of one of vLLM's metrics."""
    with urllib.request.urlopen(f"http://{server.metrics}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"vllm:{name}{{"))


def running_sequences(server: Server) -> int:
    return int(metric(server, "num_requests_running") + metric(server, "num_requests_waiting"))


def ended(server: Server) -> float:
    """How many generations have come to their last token; metrics are reported once a second, at the next look."""
    return settled(lambda: metrics(server.metrics, MODEL).get("request_success_total[length]", 0), pause=1.6)


@contextmanager
def leaving(server: Server, count: int = 1) -> Iterator[None]:
    """So many generations are left within the block; afterwards the server has given them up, and does nothing."""
    before = given_up(server)
    yield
    assert soon(lambda: given_up(server) >= before + count), "a generation goes on for nobody"
    idle(server)


def given_up(server: Server) -> float:
    """How many generations have ended because nobody waited for them."""
    return metrics(server.metrics, MODEL).get("request_success_total[abort]", 0)


def idle(server: Server, within_s: float = SOON_S) -> None:
    """Wait until no generation is running or waiting; metrics may be a second old."""
    assert soon(lambda: not running_sequences(server), within_s), "generations still run"
