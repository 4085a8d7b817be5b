"""Offer the front door more than its replicas can serve: `python -m tests.overload`.

Without a MODEL, one is served that takes 10 ms for each request and no processor time: generator, door and replicas
share the cores of one host, so that with a real model they also slow each other down.

The saturating rate is that of a closed loop. Then requests come on schedules (open loops) at 90 % of it, and at twice
as much. Exit code 1 if less than 90 % of the saturating rate is answered at twice the rate, or if the p99 of answered
requests is then more than twice that at 90 % load.

    python -m tests.overload
    python -m tests.overload mnist_mlp --apart      # server and load generator on cores of their own
    python -m tests.overload cifar10_cnn --protocol grpc --options '--in-flight 8 --queue 8'
"""

import os
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

from clients.command import command, command_parser, duration, print_json, say, text_table
from clients.connection import PROTOCOLS
from tests.e2e.serving import FREE_PORTS, serving
from tests.hostile.targets import door_address, write_model
from tests.overload.loads import run
from tools.bench.copies import write_copy

_CALLERS = 32
_CORES = os.sched_getaffinity(0)
CONFIG = """
name: "waiting"
backend: "python"
max_batch_size: 0
input { name: "X" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] }
instance_group { kind: KIND_CPU }
"""
SOURCE = """
import time
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        time.sleep(0.01 * len(requests))
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", np.zeros(1, np.float32))]) for _ in requests]
"""
_DOOR = ("--front", "127.0.0.1:0", "--operator", "127.0.0.1:0", "--replicas", "2")


def row(name: str, found: dict[str, Any]) -> list[str]:
    """What is printed of a load test."""
    offered, answered = (
        found["requests"] / found["duration_s"],
        (found["requests"] - found["errors"]) / found["duration_s"],
    )
    return [
        name,
        f"{offered:,.0f}",
        f"{answered:,.0f}",
        str(found["p50_ms"]),
        str(found["p99_ms"]),
        str(found["valid"]),
    ]


def _use_half(is_server: bool, is_apart: bool) -> int:
    """Have what is started from now on run on one half of the cores, if that is wanted; the number of cores."""
    cores = sorted(_CORES)
    if is_apart and len(cores) > 1:
        half = len(cores) // 2
        cores = cores[:half] if is_server else cores[half:]
        os.sched_setaffinity(0, cores)
    return len(cores)


@command()
def main() -> int:
    """Overload a service."""
    parser = command_parser("tests.overload", __doc__)
    parser.add_argument("model", nargs="?", metavar="MODEL", help="(default: one that waits)")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="http", help="(default: %(default)s)")
    parser.add_argument(
        "--duration", type=duration, default=60.0, metavar="TIME", help="of each open loop (default: 60s)"
    )
    parser.add_argument("--apart", action="store_true", help="server and load generator on half of the cores each")
    parser.add_argument("--options", default="", help="further options of tools.serve, in one word")
    arguments = parser.parse_args()
    model, protocol = arguments.model or "waiting", arguments.protocol
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        if arguments.model:
            write_copy(model, scratch / "models")
        else:
            write_model(scratch / "models", model, CONFIG, SOURCE)
        served = ("--repository", scratch / "models", *FREE_PORTS, *_DOOR, *shlex.split(arguments.options))
        _use_half(True, arguments.apart)
        with serving(scratch / "run", *served) as running:
            url = door_address(running.line(60))
            processes = min(_use_half(False, arguments.apart), 2)
            closed = run(model, url, protocol, 10, scratch, "--concurrency", str(_CALLERS))
            saturating = (closed["requests"] - closed["errors"]) / closed["duration_s"]
            found = {"closed loop": closed}
            for name, share in (("90 %", 0.9), ("200 %", 2.0)):
                load = ("--rate", f"{share * saturating:.0f}", "--processes", str(processes))
                found[name] = run(model, url, protocol, arguments.duration, scratch, *load)
                say(f"{name}: {found[name]['error_kinds']}")
    print(
        text_table(
            [["load", "offered/s", "answered/s", "p50 ms", "p99 ms", "valid"], *(row(*each) for each in found.items())]
        )
    )
    twice, most = found["200 %"], found["90 %"]
    goodput = (twice["requests"] - twice["errors"]) / twice["duration_s"] / saturating
    slower = twice["p99_ms"] / most["p99_ms"] if twice["p99_ms"] and most["p99_ms"] else None
    print_json({"goodput": round(goodput, 3), "p99_ratio": slower and round(slower, 2), "found": found})
    return int(goodput < 0.9 or slower is None or slower > 2)


if __name__ == "__main__":
    sys.exit(main())
