"""Load-test a Triton server over HTTP and gRPC: `python -m loadtest.run`.

With a model as its first word, it sends that model requests by a schedule, see `loadtest.direct`. Without one, it runs
Locust headless with `loadtest/locustfile.py`, once per protocol, and prints what the clients saw beside what the
server counted. Reports (HTML, Markdown, JSON) go to build/loadtest; the last line of stdout is one JSON document.
The exit code is 1 when an objective of --slo is missed or nothing was answered, 2 when the test could not be run.

    python -m loadtest.run mnist_mlp --rate 500 --arrivals poisson --duration 30 --protocol grpc --slo 'p99<20ms'
    python -m loadtest.run --users 32 --run-time 30 --slo 'p99<50ms,errors<0.1%'
    python -m loadtest.run --protocols grpc --models mnist_mlp,cifar10_cnn=2 --processes 2
"""

import argparse
import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clients.connection import PROTOCOLS
from loadtest.report.closed_loop import REPORTS

ROOT = Path(__file__).resolve().parent.parent
# What the last line of stdout leaves to the file.
BULKY = ("curve",)


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.run",
        description=(__doc__ or "").split("\n")[0],
        epilog="`python -m loadtest.run MODEL --help` for requests by a schedule. Further options go to Locust as they "
        "are, for example --models, --slo, --client-batch, --processes; "
        "`locust -f loadtest/locustfile.py --help` lists them. Servers: $TRITON_HTTP_URL and $TRITON_GRPC_URL.",
    )
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=PROTOCOLS, help="(default: both)")
    parser.add_argument("--users", type=int, default=16, help="concurrent virtual users (default: %(default)s)")
    parser.add_argument("--run-time", type=int, default=10, metavar="S", help="seconds per protocol (default: 10)")
    parser.add_argument("--report", type=Path, default=REPORTS, help="folder of the reports (default: %(default)s)")
    return parser


def locust(protocol: str, arguments: argparse.Namespace, options: Sequence[str]) -> int:
    """One headless run of Locust; returns its exit code."""
    line = [sys.executable, "-m", "locust", "-f", str(ROOT / "loadtest" / "locustfile.py"), "--headless"]
    # Without its own log set-up Locust prints our table alone, not a second one with rounded percentiles.
    line += ["--skip-log-setup", "--only-summary", "--protocol", protocol, "--report", str(arguments.report)]
    line += ["--users", str(arguments.users), "--spawn-rate", str(arguments.users)]
    line += ["--run-time", str(arguments.run_time), *meeting_point(options), *options]
    return subprocess.run(line).returncode


def meeting_point(options: Sequence[str]) -> list[str]:
    """A port of their own for a master and its workers: with Locust's usual one two tests at a time would collide."""
    named = {option.split("=")[0] for option in options}
    if "--processes" not in named or named & {"--worker", "--master-port", "--master-bind-port"}:
        return []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    return ["--master-bind-port", port, "--master-port", port]


def measure(protocol: str, arguments: argparse.Namespace, options: Sequence[str]) -> tuple[int, dict[str, Any]]:
    """Exit code and figures of one protocol; no figures when the test could not be run."""
    written = arguments.report / f"{protocol}.json"
    written.unlink(missing_ok=True)
    print(f"{protocol}: {arguments.users} users for {arguments.run_time} s …", file=sys.stderr)
    code = locust(protocol, arguments, options)
    if not written.is_file():
        return code or 2, {}
    result = json.loads(written.read_text())
    return code, {key: value for key, value in result.items() if key not in BULKY}


def main() -> int:
    """Entry point."""
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        from loadtest import direct

        return direct.main(sys.argv[1:])
    arguments, options = parser().parse_known_args()
    results: dict[str, Any] = {}
    worst = 0
    for protocol in arguments.protocols:
        code, results[protocol] = measure(protocol, arguments, options)
        worst = max(worst, code)
        if not results[protocol]:
            return worst
        print(flush=True)
    print(json.dumps(results, separators=(",", ":")))
    return worst


if __name__ == "__main__":
    sys.exit(main())
