"""The commands that run for long, each on a repository, a server and a folder of outputs of its own."""

import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MODEL = "mnist_mlp"
FREE_PORTS = ["--http-port=0", "--grpc-port=0", "--metrics-port=0"]
PYTHON = [sys.executable, "-m"]
# Without a terminal, it restarts servers.
_ROLLS = (signal.SIGHUP,)


@dataclass(frozen=True)
class Place:
    """Where a command may work: a repository of its own, and a folder for what it writes."""

    repository: Path
    outputs: Path


@dataclass(frozen=True)
class Case:
    """A command that runs for long, and the seconds after its start within which it is ended."""

    line: Callable[[Place], list[str]]
    seconds: float
    earlier: tuple[str, ...] = ()  # results of an earlier run, by their paths in the folder of outputs
    spared: tuple[signal.Signals, ...] = ()  # which do not end it


def _rows(place: Place) -> str:
    path = place.outputs / "rows.npy"
    np.save(path, np.zeros((200_000, 784), np.float32))
    return str(path)


def _loadtest(name: str, *options: str) -> Callable[[Place], list[str]]:
    return lambda place: [*PYTHON, f"loadtest.{name}", *options, "--report", str(place.outputs)]


def _tool(*words: str) -> Callable[[Place], list[str]]:
    return lambda place: [*PYTHON, *words, "--repository", str(place.repository)]


def _measuring(*words: str) -> Callable[[Place], list[str]]:
    return lambda place: [*_tool(*words)(place), "--output", str(place.outputs)]


_SWARM = ("swarm", "--users", "4", "--run-time", "60", "--models", MODEL)
_LOCUST = ["--headless", "--users", "4", "--run-time", "60s", "--models", MODEL, "--processes", "2"]
_LATENCY = ["--slo", "p99<50ms"]
CASES = {
    "loadtest.run": Case(
        _loadtest("run", MODEL, "--rate", "200", "--duration", "60", "--processes", "2"),
        6,
        (f"{MODEL}-http-open.json", f"{MODEL}-http-open.html"),
    ),
    "loadtest.run grpc": Case(
        _loadtest("run", MODEL, "--protocol", "grpc", "--concurrency", "4", "--duration", "60"),
        6,
        (f"{MODEL}-grpc-closed.json",),
    ),
    "loadtest.swarm": Case(_loadtest(*_SWARM, "--processes", "2"), 10, ("http.json", "http.html", "grpc.json")),
    "loadtest.swarm one process": Case(_loadtest(*_SWARM, "--protocols", "grpc"), 8, ("grpc.json", "grpc.md")),
    "locust": Case(
        lambda place: [*PYTHON, "locust", "-f", "loadtest/locustfile.py", *_LOCUST, "--report", str(place.outputs)], 10
    ),
    "loadtest.peak": Case(_loadtest("peak", MODEL, *_LATENCY), 10, (f"{MODEL}-http-peak.html",)),
    "clients.batch": Case(
        lambda place: [
            *(*PYTHON, "clients.batch", _rows(place), str(place.outputs / "out.npz"), "--model", MODEL),
            *("--batch-size", "4", "--in-flight", "4"),
        ],
        6,
        ("out.npz",),
    ),
    "clients.router": Case(
        lambda place: [
            *(*PYTHON, "clients.router"),
            *(f"--{name}=127.0.0.1:0" for name in ("listen", "listen-grpc", "control")),
        ],
        3,
    ),
    "tools.serve": Case(_tool("tools.serve", *FREE_PORTS), 5, spared=_ROLLS),
    "tools.serve, two": Case(_tool("tools.serve", *FREE_PORTS, "--replicas", "2"), 10, spared=_ROLLS),
    "tools.serve python backend": Case(_tool("tools.serve", *FREE_PORTS, "--backend", "python"), 10, spared=_ROLLS),
    "tools.serve --run": Case(
        _tool("tools.serve", *FREE_PORTS, "--run", f"{sys.executable} -m loadtest.peak {MODEL} --slo 'p99<50ms'"), 10
    ),
    "tools.verify": Case(
        lambda place: [*_tool("tools.verify", MODEL)(place), "--report", str(place.outputs)], 20, ("verify.html",)
    ),
    "tools.tune": Case(_measuring("tools.tune", MODEL, *_LATENCY, "--trial", "1"), 25, (f"{MODEL}.html",)),
    # A seed of its own: a checkpoint of these epochs is no other run's.
    "tools.train": Case(lambda place: [*PYTHON, "tools.train", MODEL, "--epochs", "30", "--seed", "99", "--fresh"], 15),
    "tools.export": Case(_tool("tools.export", MODEL), 15),
}
