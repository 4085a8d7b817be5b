"""The embedded server beside what people would use instead: mosec, and FastAPI with uvicorn.

    python -m tools.bench peers
    python -m tools.bench peers mnist_mlp --concurrency 1 64 --rounds 3

The same TorchScript file behind each, one row per request, with a raw body, on the same cores. Each peer runs in an
environment of its own that is made at the first run (build/peers), with the torch of this one. The load is wrk's;
rounds go through all servers in turn, so that a slowdown of the machine affects all of them.
"""

import argparse
import os
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from clients.command import progress, say, text_table
from clients.contract import Contract
from clients.errors import ToolError
from clients.lifetime import leashed
from tools.bench import wrk
from tools.bench.copies import serve_copies
from tools.bench.options import TRAINED, BenchOptions, add_bench_arguments, trained_models
from tools.contract import read_contract
from tools.repository import MODEL_FILE, ROOT, version_path, versions

_ENVIRONMENTS = ROOT / "build" / "peers"
_OURS = "ours"
_START_SECONDS = 60.0
_SERVERS = "tools.bench.peer_servers"


@dataclass(frozen=True)
class _Peer:
    """A framework: what its environment holds, and its command line with {bin} and {port} filled in."""

    name: str
    requirements: tuple[str, ...]
    command: tuple[str, ...]


_PEERS = (
    _Peer("mosec", ("mosec==0.9.8",), ("{bin}/python", "-m", f"{_SERVERS}.mosec_server", "--port", "{port}")),
    _Peer(
        "fastapi",
        ("fastapi==0.165.0", "uvicorn==0.54.0", "uvloop==0.23.0", "httptools==0.9.0"),
        ("{bin}/python", "-m", "uvicorn", f"{_SERVERS}.fastapi_server:app", "--port", "{port}")
        + ("--workers", str(os.cpu_count()), "--log-level", "warning"),
    ),
)


@dataclass(frozen=True)
class _Target:
    """Where a server takes a request, and the request."""

    url: str
    body: bytes
    headers: dict[str, str]


class PeerError(ToolError):
    """A peer cannot be installed or started."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's options."""
    add_bench_arguments(parser, BenchOptions, TRAINED, [1, 8, 32, 64], "each measurement", 3.0, rounds=3)


def run(options: BenchOptions) -> dict[str, Any]:
    """Measure all models, print a table of each; return the medians by model, concurrency and server.

    Raises:
        PeerError: a peer cannot be installed or started.
        WrkError: wrk is not installed or failed.
    """
    if not wrk.is_installed():
        raise wrk.WrkError("this benchmark needs wrk (Debian, Ubuntu: apt install wrk)")
    environments = {peer.name: _environment(peer) for peer in _PEERS}
    return {model: _bench(model, options, environments) for model in options.models or trained_models()}


def _environment(peer: _Peer) -> Path:
    """The folder of a peer's programs; made at the first run."""
    folder = _ENVIRONMENTS / "-".join(requirement.replace("==", "-") for requirement in peer.requirements)
    if not (folder / "ready").is_file():
        say(f"installing {', '.join(peer.requirements)} into {folder}, once …")
        python = folder / "bin" / "python"
        for line in ([sys.executable, "-m", "venv", folder], [python, "-m", "pip", "install", *peer.requirements]):
            result = subprocess.run(leashed([str(word) for word in line]), capture_output=True, text=True)
            if result.returncode:
                raise PeerError(f"{peer.name} cannot be installed: {result.stderr.strip()[-500:]}")
        # Our torch and numpy, after the peer's own packages.
        (site,) = folder.glob("lib/python*/site-packages")
        (site / "torch_of_the_repository.pth").write_text(sysconfig.get_path("purelib") + "\n")
        (folder / "ready").touch()
    return folder / "bin"


def _bench(model: str, options: BenchOptions, environments: Mapping[str, Path]) -> dict[str, dict[str, float]]:
    contract = read_contract(model, options.repository)
    seen: dict[int, dict[str, list[float]]] = {level: {} for level in options.concurrency}
    with ExitStack() as running:
        server = running.enter_context(serve_copies([model], options.repository, options.hardware))
        body, headers = wrk.infer_request(contract)
        targets = {_OURS: _Target(f"http://{server.http}/v2/models/{model}/infer", body, headers)}
        row = np.random.default_rng(0).random(contract.inputs[0].dims, np.float32).tobytes()
        for peer in _PEERS:
            url = running.enter_context(_serve(peer, environments[peer.name], model, contract, options.repository))
            targets[peer.name] = _Target(url, row, {})
        steps = [(level, name) for _ in range(options.rounds) for level in options.concurrency for name in targets]
        for level, name in progress(steps, model):
            target = targets[name]
            load = wrk.send(target.url, target.body, target.headers, level, options.seconds)
            seen[level].setdefault(name, []).append(load.rate)
        say(f"{model}: {server.backend.name} pytorch backend")
    medians = {level: {name: median(runs) for name, runs in servers.items()} for level, servers in seen.items()}
    print(f"\n{model}, requests/s\n{text_table(_table(medians))}")
    return {
        str(level): {name: round(rate, 1) for name, rate in of_level.items()} for level, of_level in medians.items()
    }


@contextmanager
def _serve(peer: _Peer, programs: Path, model: str, contract: Contract, repository: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
    environment = {
        **os.environ,
        "MODEL_FILE": str(version_path(model, versions(model, repository)[-1], repository) / MODEL_FILE),
        "INPUT_SHAPE": ",".join(map(str, contract.inputs[0].dims)),
        "MAX_BATCH": str(contract.max_batch_size),
        "OMP_NUM_THREADS": "1",
    }
    line = leashed([word.format(bin=programs, port=port) for word in peer.command])
    process = subprocess.Popen(line, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(peer, process, port)
        yield f"http://127.0.0.1:{port}/{'inference' if peer.name == 'mosec' else 'infer'}"
    finally:
        process.terminate()
        process.wait(20)


def _wait_for(peer: _Peer, process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.2)
        else:
            time.sleep(2)  # The workers load the model after the port is open.
            return
    raise PeerError(f"{peer.name} did not start; run {' '.join(peer.command)}")


def _table(medians: Mapping[int, Mapping[str, float]]) -> list[list[str]]:
    names = list(next(iter(medians.values())))
    table = [["connections", *names, "ours ÷ best other"]]
    for level, rates in medians.items():
        best = max(rate for name, rate in rates.items() if name != _OURS)
        table.append([str(level), *(f"{rates[name]:,.0f}" for name in names), f"{rates[_OURS] / best:.2f}"])
    return table
