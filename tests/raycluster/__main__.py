"""A large inference on a Ray cluster of two machines, one of which is lost: `python -m tests.raycluster`.

The machines are processes of this host. In the middle a worker is killed, and later a whole machine (its raylet, and
with it its workers). Then every row has to be there once, with the values of a run without Ray, and the manifest has to
be right. The same rows are run without Ray and on Ray's own machine (`--ray local`) for comparison. The last line of
stdout is one JSON document; exit code 1 means that a row is lost, doubled or another one.

    python -m tests.raycluster
    python -m tests.raycluster --rows 20000 --servers 1
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from clients.command import command, command_parser, positive, print_json, say, text_table
from clients.contract import Array
from clients.errors import ToolError
from tests.raycluster.machines import KEY, machine, raylet, unused_port, workers
from tools.bench.copies import write_copies
from tools.repository import ROOT
from tools.serve.tritonserver import Options, Server

MODEL = "mnist_mlp"
_SIGMA = 1e-4  # by which answers may differ: the server forms other batches each time
_SAMPLED_S = 0.25


def write_rows(path: Path, rows: int) -> Path:
    """Write random pixels for the MLP, a stretch at a time."""
    random = np.random.default_rng(0)
    array = np.lib.format.open_memmap(path, "w+", np.float32, (rows, 784))  # type: ignore[no-untyped-call]
    for start in range(0, rows, 10_000):
        stretch = array[start : start + 10_000]
        stretch[:] = random.integers(0, 256, stretch.shape).astype(np.float32) / 255
    array.flush()
    return path


def line(source: Path, output: Path, servers: list[Server], *options: str) -> list[str]:
    """The command of one run."""
    more = ["--more-urls", *(server.grpc for server in servers[1:])] if servers[1:] else []
    words = [sys.executable, "-m", "clients.batch", str(source), str(output), "--model", MODEL, "--json", *more]
    return [*words, "--protocol", "grpc", "--url", servers[0].grpc, "--outputs", "OUTPUT__0", *options]


class Run:
    """A run of the command; `memory` is the most that it and its children have had, in bytes."""

    def __init__(self, words: list[str], folder: Path):
        self.began, self.memory = time.monotonic(), 0
        self.log = folder.open("w+")
        self.process = subprocess.Popen(
            words, cwd=ROOT, stdout=subprocess.PIPE, stderr=self.log, text=True, env={**os.environ, **KEY}
        )
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()

    def _sample(self) -> None:
        while self.process.poll() is None:
            try:
                own = psutil.Process(self.process.pid)
                family = [own, *own.children(recursive=True)]
                self.memory = max(self.memory, sum(_proportional(each) for each in family))
            except psutil.Error:
                continue
            time.sleep(_SAMPLED_S)

    def result(self) -> dict[str, Any]:
        """Wait for the end; its JSON."""
        printed, _ = self.process.communicate()
        self._thread.join()
        self.log.seek(0)
        said = self.log.read()
        self.log.close()
        if self.process.returncode:
            raise ToolError(f"exit code {self.process.returncode}: {said[-1500:]}")
        document: dict[str, Any] = json.loads(printed.splitlines()[-1])
        return {**document, "wall_s": round(time.monotonic() - self.began, 1), "memory_mb": self.memory // 10**6}


def _proportional(process: psutil.Process) -> int:
    """Its memory, with its share of what it shares with others."""
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def read(folder: Path) -> tuple[Array, Array, dict[str, Any]]:
    """Rows and values of a folder of parts, and its manifest, whose sums are checked."""
    from pyarrow import dataset

    manifest = json.loads((folder / "_manifest.json").read_text())
    for part in manifest["parts"]:
        if hashlib.sha256((folder / part["file"]).read_bytes()).hexdigest() != part["sha256"]:
            raise ToolError(f"{part['file']} is another one than the manifest says")
    table = dataset.dataset(folder).to_table()
    values = table["OUTPUT__0"].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1)
    return table["row"].to_numpy(), values, manifest


def compare(folder: Path, expected: Array) -> dict[str, Any]:
    """What is wrong with a folder of parts."""
    rows, values, manifest = read(folder)
    counts = np.bincount(rows, minlength=len(expected))
    difference = np.abs(values - expected[rows])
    return {
        "lost": int((counts == 0).sum()),
        "doubled": int((counts > 1).sum()),
        "different": int((difference > _SIGMA).any(axis=1).sum()),
        "equal_bits": int((values == expected[rows]).all(axis=1).sum()),
        "largest_difference": float(difference.max()),
        "errors": manifest["errors"],
    }


def finished(output: Path) -> int:
    """Parts that are finished."""
    return len(list((output / "_done").glob("[0-9]*.json")))


def inferences(servers: list[Server]) -> int:
    """Rows that the servers have answered."""
    from clients.client import Client
    from clients.connection import Connection

    total = 0
    for server in servers:
        with Client(Connection("http", server.http)) as client:
            total += sum(entry["inference_count"] for entry in client.statistics(MODEL))
    return total


def on_cluster(source: Path, output: Path, servers: list[Server], parts: int, scratch: Path) -> dict[str, Any]:
    """Run on a cluster of two machines, and kill a worker of one and then all of the other."""
    head = f"127.0.0.1:{unused_port()}"
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder, ExitStack() as stack:
        first = stack.enter_context(machine(Path(folder), head))
        second = stack.enter_context(machine(Path(folder), "127.0.0.2", head))
        before, run = inferences(servers), Run(line(source, output, servers, "--ray", head), scratch / "cluster.log")
        killed = []
        for share, find in ((0.25, lambda: workers(first)), (0.5, lambda: [raylet(second)])):
            while (finished(output) < share * parts or not find()) and run.process.poll() is None:
                time.sleep(0.02)
            for process in find()[:1] if run.process.poll() is None else []:
                killed.append(f"{process.name()} at {finished(output)} of {parts} parts")
                process.kill()
        result = run.result()
        return {**result, "killed": killed, "computed": inferences(servers) - before}


@command()
def main() -> int:
    """Run the same rows in each way, and compare the results."""
    parser = command_parser("tests.raycluster", __doc__)
    parser.add_argument("--rows", type=positive, default=200_000, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--servers", type=positive, default=2, metavar="N", help="(default: %(default)s)")
    arguments = parser.parse_args()
    runs: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        scratch = Path(name)
        source = write_rows(scratch / "rows.npy", arguments.rows)
        repository = write_copies([MODEL], scratch / "models")
        servers = [stack.enter_context(Server(Options(repository))) for _ in range(arguments.servers)]
        ways = {"one file": ("out.npz", ()), "parts": ("parts", ()), "ray local": ("local", ("--ray", "local"))}
        for way, (output, options) in ways.items():
            runs[way] = Run(line(source, scratch / output, servers, *options), scratch / f"{output}.log").result()
            say(f"{way}: {runs[way]}")
        parts = len(list((scratch / "parts").glob("part-*.parquet")))
        runs["cluster"] = on_cluster(source, scratch / "cluster", servers, parts, scratch)
        say(f"cluster: {runs['cluster']}")
        expected = np.load(scratch / "out.npz")["OUTPUT__0"]
        for way in ("parts", "local", "cluster"):
            runs["ray local" if way == "local" else way] |= compare(scratch / way, expected)
    columns = ("rows_per_s", "wall_s", "memory_mb", "lost", "doubled", "different", "equal_bits")
    print(
        text_table(
            [["run", *columns], *([way, *(str(run.get(each, "")) for each in columns)] for way, run in runs.items())]
        )
    )
    print_json(runs)
    wrong = sum(run.get(each, 0) for run in runs.values() for each in ("lost", "doubled", "different", "errors"))
    return int(wrong > 0 or len(runs["cluster"]["killed"]) < 2)


if __name__ == "__main__":
    sys.exit(main())
