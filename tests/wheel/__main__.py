"""The wheel, installed from a package index for each of several interpreters: what runs where, and for how long.

    python -m tests.wheel --python python3.10 python3.12 python3.13
    python -m tests.wheel --python python3.12 --extra serve --index https://download.pytorch.org/whl/cpu

Each installs an extra into an empty environment, imports every module, checks a repository, and asks a running server
over both protocols; with `loadtest` it sends load, with `serve` it serves by itself. The last line of stdout is JSON.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from clients.command import command, command_parser, print_json, say
from tests.differential.examples import GOOD, write_model
from tests.e2e.serving import FREE_PORTS, add_sleeper
from tests.wheel.environment import IMPORT_ALL, Environment, build
from tools.serve.tritonserver import Options, Server

ASK = """
import asyncio, sys, numpy as np
from triton_repo.clients.aio import AsyncClient
from triton_repo.clients.client import Client
from triton_repo.clients.connection import Connection
seconds = np.array([0.01], np.float32)
async def ask(connection):
    async with AsyncClient(connection) as client:
        return await client.infer("sleeper", seconds)
for protocol, url in zip(("http", "grpc"), sys.argv[1:]):
    with Client(Connection(protocol, url)) as client:
        assert client.infer("sleeper", seconds)["SECONDS"] == seconds
    assert asyncio.run(ask(Connection(protocol, url)))["SECONDS"] == seconds
print(np.__version__)
"""


def _install(interpreter: str, wheel: Path, extra: str, index: str | None, folder: Path) -> Environment:
    subprocess.run([interpreter, "-m", "venv", str(folder)], check=True)
    made = Environment(folder)
    more = ["--extra-index-url", index] if index else []
    line = [made.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *more, f"{wheel}[{extra}]"]
    subprocess.run(line, check=True)
    return made


def _try(made: Environment, server: Server, serves: bool, folder: Path) -> dict[str, Any]:
    """What came of each step in an environment, with its seconds."""
    seconds: dict[str, Any] = {}

    def timed(name: str, *line: str | Path, code: int = 0) -> str:
        began = time.monotonic()
        answer = made.run(*line, cwd=folder, timeout=120)
        seconds[name] = round(time.monotonic() - began, 2)
        if answer.returncode != code:
            raise SystemExit(f"{name}: {answer.returncode}\n{answer.stdout}{answer.stderr}")
        return answer.stdout

    failed, others = json.loads(timed("import", "python", "-c", IMPORT_ALL).splitlines()[-1])
    seconds["lacks"] = sorted(set(failed.values()))
    assert not others
    timed("help", "triton-repo", "check", "--help")
    timed("check", "triton-repo", "check", "model_repository")
    timed("find", "triton-repo", "check", "faulty", code=1)
    timed("status", "triton-repo", "status", "--url", server.http)
    seconds["numpy"] = timed("ask", "python", "-c", ASK, server.http, server.grpc).strip()
    if "locust" not in seconds["lacks"]:
        np.save(folder / "rows.npy", np.full((4, 1), 0.001, np.float32))
        load = ("sleeper", "--payload", "rows.npy", "--concurrency", "2", "--duration", "2", "--url", server.http)
        timed("loadtest", "triton-repo", "loadtest", *load)
    if serves:
        timed("serve", "triton-repo", "serve", "--backend", "python", *FREE_PORTS, "--run", "triton-repo status")
    return seconds


@command()
def main() -> int:
    """Try the wheel with each interpreter."""
    parser = command_parser("tests.wheel", __doc__)
    parser.add_argument("--python", nargs="+", default=[sys.executable], metavar="PROGRAM", help="(default: this one)")
    parser.add_argument("--extra", default="client", help="to install (default: %(default)s)")
    parser.add_argument("--index", metavar="URL", help="an additional package index, for torch")
    arguments = parser.parse_args()
    results = {}
    with TemporaryDirectory() as scratch, Server(Options(add_sleeper(Path(scratch) / "model_repository"))) as server:
        folder = Path(scratch)
        write_model(folder / "faulty", GOOD.replace("max_batch_size: 8", "max_batch_size: -1"))
        wheel = build(folder / "wheel")
        for number, interpreter in enumerate(arguments.python):
            began = time.monotonic()
            made = _install(interpreter, wheel, arguments.extra, arguments.index, folder / str(number))
            installed = round(time.monotonic() - began, 1)
            results[interpreter] = {"install": installed, **_try(made, server, arguments.extra == "serve", folder)}
            say(f"{interpreter}: {results[interpreter]}")
    print_json(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
