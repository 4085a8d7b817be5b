"""Load-test a Triton server with Locust's virtual users over HTTP and gRPC: `python -m loadtest.swarm`.

Runs Locust headless with `loadtest/locustfile.py`, once per protocol, and prints what the clients saw beside what the
server counted. Reports (HTML, Markdown, JSON) go to build/loadtest; the last line of stdout is one JSON document.
The exit code is 1 when an objective of --slo is missed or nothing was answered, 2 when the test could not be run.

    python -m loadtest.swarm --users 32 --run-time 30 --slo 'p99<50ms,errors<0.1%'
    python -m loadtest.swarm --protocols grpc --models mnist_mlp,cifar10_cnn=2 --processes 2
"""

import argparse
import json
import math
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clients.command import command, command_parser, duration, positive, print_json, say
from clients.connection import PROTOCOLS
from clients.lifetime import leashed
from loadtest.options import REPORTS

_LOCUSTFILE = Path(__file__).resolve().parent.parent / "locustfile.py"


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "loadtest.swarm",
        __doc__,
        epilog="Further options go to Locust: --models A,B=2 (weights; default: the ready classifiers), --slo SLO, "
        "--client-batch N, --think-time S, --samples FOLDER, --payload FILE, and its own, "
        "for example --processes N (`locust --help`). "
        "Servers: $TRITON_HTTP_URL and $TRITON_GRPC_URL.",
    )
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=PROTOCOLS, help="(default: both)")
    parser.add_argument("--users", type=positive, default=16, help="concurrent virtual users (default: %(default)s)")
    text = "per protocol, as 90, 90s or 1m30s (default: %(default)s)"
    parser.add_argument("--run-time", type=duration, default="10s", metavar="TIME", help=text)
    parser.add_argument("--report", type=Path, default=REPORTS, help="folder of the reports (default: %(default)s)")
    return parser


def _measure(protocol: str, users: int, seconds: float, report: Path, options: Sequence[str]) -> tuple[int, Any]:
    """Exit code and figures of one protocol; None for figures when the test could not be run."""
    path = report / f"{protocol}.json"
    earlier = _written(path)
    say(f"{protocol}: {users} users for {seconds:g} s …")
    line = [sys.executable, "-m", "locust", "-f", str(_LOCUSTFILE), "--headless"]
    # Without its own log set-up Locust prints our table alone, not a second one with rounded percentiles.
    line += ["--skip-log-setup", "--only-summary", "--protocol", protocol, "--report", str(report)]
    # Locust takes whole seconds.
    line += ["--users", str(users), "--spawn-rate", str(users), "--run-time", str(math.ceil(seconds))]
    line += [*_master_port(options), *options]
    # At Ctrl-C or SIGTERM, it would report a part of the test in place of an earlier whole one.
    code = subprocess.run(leashed(line, signal.SIGKILL), stdin=subprocess.DEVNULL, process_group=0).returncode
    if _written(path) == earlier:
        return code or 2, None
    result = json.loads(path.read_text())
    del result["curve"]  # It is in the report's file.
    return code, result


def _written(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.is_file() else None


def _master_port(options: Sequence[str]) -> list[str]:
    """A free port for a master and its workers: on Locust's usual one, two tests at a time would collide."""
    names = {option.split("=")[0] for option in options}
    if "--processes" not in names or names & {"--worker", "--master-port", "--master-bind-port"}:
        return []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    return ["--master-bind-port", port, "--master-port", port]


@command()
def main() -> int:
    """Run one test per protocol."""
    arguments, options = _parser().parse_known_args()
    results: dict[str, Any] = {}
    worst = 0
    try:
        for protocol in arguments.protocols:
            code, figures = _measure(protocol, arguments.users, arguments.run_time, arguments.report, options)
            worst = max(worst, code)
            if figures is None:
                return worst
            results[protocol] = figures
            print(flush=True)
    finally:
        if results:
            print_json(results)
    return worst


if __name__ == "__main__":
    sys.exit(main())
