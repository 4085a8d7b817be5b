"""A server with the language model alone, and what its metrics say is running."""

import time
import urllib.request

from tests.language.asking import metrics
from tests.language.tiny import MODEL as MODEL
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


def busy(server: Server) -> None:
    """Wait until a generation is running."""
    deadline = time.monotonic() + 2.5
    while not running_sequences(server):
        assert time.monotonic() < deadline, "nothing runs"
        time.sleep(0.05)


def ended(server: Server) -> float:
    """How many generations have come to their last token; metrics are reported once a second, at the next look."""
    time.sleep(1.6)
    return metrics(server.metrics, MODEL).get("request_success_total[length]", 0)


def idle(server: Server, within_s: float = 5) -> None:
    """Wait until no generation is running or waiting; metrics may be a second old, and the host busy."""
    deadline = time.monotonic() + within_s
    while running := running_sequences(server):
        assert time.monotonic() < deadline, f"{running} generations still run"
        time.sleep(0.05)
