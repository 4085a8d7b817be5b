"""Random command lines under random conditions: what a user can type, and what a machine can be like."""

import random
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from tests.commands.world import MODEL
from tools.repository import ROOT

_OFFLINE = "--http-port 0 --grpc-port 0 --metrics-port 0"
# Lines that work, where there is a server: quick ones several times, slow ones once.
LINES = (
    *(("clients.status", f"clients.status {MODEL} --json") * 2),
    *((f"clients.classify build/samples/{MODEL} --model {MODEL}", f"clients.classify odd --model {MODEL} --json") * 2),
    *((f"clients.batch odd/rows.npy out/rows.npz --model {MODEL}", "clients.batch odd out/rows.parquet --model x") * 2),
    f"clients.batch build/samples/{MODEL} out/rows.parquet --model {MODEL} --retries 1",
    f"clients.batch odd/rows.npy out/parts --model {MODEL} --part-rows 100",
    "clients.router --listen 127.0.0.1:0 --listen-grpc 127.0.0.1:0 --control 127.0.0.1:0",
    f"clients.generate Hi --model {MODEL} --chat-template odd/text.json",
    f"loadtest.run {MODEL} --rate 50 --duration 1 --report out",
    f"loadtest.run {MODEL} --concurrency 100 --duration 1 --report out",
    f"loadtest.run {MODEL} --arrivals odd/times.txt --report out --slo p99<50ms",
    f"loadtest.peak {MODEL} --slo p99<50ms --trial 1 --budget 3",
    f"tools.capacity {MODEL} --rate 90 --slo p99<50ms --trial 1 --budget 3 --report out",
    f"loadtest.swarm --users 4 --run-time 1 --models {MODEL} --protocols http --report out",
    *(("loadtest.diff odd/object.json odd/list.json", "loadtest.diff odd/nan.json odd/text.json") * 2),
    *((f"tools.check --model {MODEL}", "tools.check --json", "tools.check --rules") * 2),
    f"tools.check --model {MODEL} --deep",
    *((f"tools.serve {_OFFLINE} --run true", f"tools.serve {_OFFLINE}", "tools.serve --compile") * 2),
    *(("tools.sign --new-key out/keys", f"tools.sign {MODEL} --key odd/rsa.pem", "tools.sign --key odd/empty") * 2),
    *((f"tools.versions {MODEL} list", "tools.versions nope list", f"tools.versions {MODEL} promote 7") * 2),
    f"tools.verify {MODEL} --limit 4",
    f"tools.export {MODEL} --data odd",
    f"tools.train {MODEL} --epochs 1 --data odd",
    "tools.new mine --module odd/net.py:Net --example-inputs x:FP32[4]",
    "tools.new mine --module odd/raising.py:Net",
    "tools.new mine --torchscript odd/noise.pt",
    f"tools.tune {MODEL} --slo p99<20ms --budget 1 --output out",
    f"tools.compare {MODEL} --rounds 1 --seconds 1",
    "tools.bench backend",
    f"tools.doctor --seconds 0.2 --load 1 --model {MODEL} --report out",
)
_VALUES = (
    *("", " ", "0", "-1", "1", "3", "1.5", "1e309", "nan", "9" * 30, "-" + "9" * 30, "0x10", "²", "x", "ü", "\udcff"),
    *("a b", "a/b", "../..", "--", "-h", "%s", "{}", "'", "3s", "5m", "p99<1ms", "p99<", "latency", "cpu", "gpu"),
    *(
        "/dev/null",
        "/dev/full",
        "/dev/zero",
        "/proc/nope/x",
        "/no/such/place",
        ".",
        "/",
        "odd",
        "odd/loop",
        "odd/empty",
    ),
    *("odd/rows.npy", "odd/doubles.npy", "odd/objects.npy", "odd/scalar.npy", "odd/cut.npy", "odd/rows.npz"),
    *("odd/cut.npz", "odd/other.npz", "odd/text.json", "odd/list.json", "odd/deep.json", "odd/nan.json"),
    *("odd/times.txt", "odd/latin.txt", "odd/noise.png", "odd/noise.pt", "odd/net.py:Net", "odd/net.py:Nope"),
    *("odd/broken.py:Net", "odd/exiting.py:Net", "odd/rsa.pem", "odd/ed25519.pem", "odd/name-\udcff.png", "x" * 5000),
    *("127.0.0.1:99999", "127.0.0.1:1", "[::1]:1", "nobody.invalid:8000", "a..b:80", "http://127.0.0.1:8000"),
    *("name=value", "name", "name=two\nlines", "1,2", "http", "grpc", MODEL, "mnist_mlp=2", "digit_image", "resnet18"),
)
# Of the shell that starts the command, or of its environment.
SHELLS = (
    *("",) * 6,
    *("exec >&-;", "exec 2>&-;", "exec <&-;", "exec >/dev/full;", "exec 2>/dev/full;", "exec > >(exit);"),
    *("ulimit -n 64;", "ulimit -n 24;", "ulimit -f 1;", "ulimit -f 0;", "ulimit -u 40;", "ulimit -v 700000;"),
    *("trap '' PIPE; exec > >(exit);", "umask 777;", "trap '' INT;"),
)
_ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
_DEAD = dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy"), "http://127.0.0.1:1")
VARIABLES: tuple[Mapping[str, str], ...] = (
    *({},) * 4,
    *(_ASCII, _DEAD, {"TMPDIR": "/proc"}, {"TMPDIR": "/no/such"}, {"TMPDIR": "odd"}, {"HOME": "/proc"}),
    *({"PATH": "/nowhere"}, {"COLUMNS": "0"}, {"TERM": "\udcff"}, {"TRITON_METRICS_URL": "x"}, {"PYTHONWARNINGS": "x"}),
)
PLACES = ("triton", "triton", "triton", "nothing", "page", "metrics", "silence", "garbage")


@dataclass(frozen=True)
class Try:
    """One command line, and what it meets."""

    words: tuple[str, ...]
    shell: str
    variables: Mapping[str, str]
    place: str  # what is at the servers' addresses

    def __str__(self) -> str:
        return f"{self.shell} {dict(self.variables)} {self.place}: {' '.join(self.words)}".replace("x" * 100, "…")


@cache
def options_of(module: str) -> tuple[tuple[str, bool], ...]:
    """A command's options, and whether each takes a value, as its help says."""
    line = [sys.executable, "-m", module, "--help"]
    text = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = re.findall(r"^  (?:-\w, )?(--[a-z-]+)(?: ([^\s,]+))?", text, re.MULTILINE)
    return tuple((name, bool(metavar)) for name, metavar in found if name != "--help")


def random_try(random_: random.Random) -> Try:
    """Draw a command line that works, change it or not, and draw what it meets."""
    words = random_.choice(LINES).split()
    for _ in range(random_.choice((0, 0, 0, 1, 1, 2))):
        kind = random_.random()
        if kind < 0.25 and len(words) > 1:
            words[random_.randrange(1, len(words))] = random_.choice(_VALUES)
        elif kind < 0.35 and len(words) > 1:
            del words[random_.randrange(1, len(words))]
        elif options := options_of(words[0]):
            name, takes_value = random_.choice(options)
            words += [name, *([random_.choice(_VALUES)] if takes_value else [])]
    return Try(tuple(words), random_.choice(SHELLS), random_.choice(VARIABLES), random_.choice(PLACES))
