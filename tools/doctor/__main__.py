"""Question a running Triton server of any version, and say what is wrong with it: `python -m tools.doctor URL`.

Reads metadata, configs, counters and metrics, twice within some seconds: does it batch, and if not, why; where the time
goes; which models are not ready; does a queue grow; are instances too few or too many; does the response cache pay;
what is open to strangers; how do replicas differ; what would the newest release bring. Several URLs are replicas.
Nothing is changed, and nothing sent to a model unless --load allows it. At the end: the three changes that should pay
most, each with a prediction by arithmetic on the figures. --apply-and-measure tries them on an embedded server.

    python -m tools.doctor 127.0.0.1:8000
    python -m tools.doctor http://triton:8000 http://triton2:8000 --seconds 30s
    python -m tools.doctor 127.0.0.1:8000 --load 5s --repository model_repository --apply-and-measure

A report goes to build/doctor, and the last line of stdout is one JSON document. Exit code: 0 healthy, 1 something is
wrong, 2 a server could not be asked.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from clients.command import address, command, command_parser, duration, positive, print_json, say
from clients.connection import Connection, at_port, default_url, headers_from, host_and_port
from clients.errors import InvalidInput
from clients.output import try_folder
from loadtest.analysis.rejects import metrics_address
from tools.doctor.asking import Watch, see
from tools.doctor.diagnose import changes, diagnose
from tools.doctor.proof import Effort, prove
from tools.doctor.report import Report, show, write
from tools.doctor.surroundings import upgrade
from tools.serve.hardware import HARDWARE

_LONGEST_S = 3600


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("tools.doctor", __doc__)
    add = parser.add_argument
    text = "HOST:PORT of HTTP, also after http:// (default: $TRITON_HTTP_URL, else 127.0.0.1:8000)"
    add("urls", nargs="*", metavar="URL", help=text)
    text = "of each URL in order (default: $TRITON_METRICS_URL; port 8002 for a server at 8000)"
    add("--metrics-url", type=address, action="append", default=[], metavar="HOST:PORT", help=text)
    add("--seconds", type=duration, default="5s", metavar="TIME", help="to watch")
    add("--load", type=duration, default=0.0, metavar="TIME", help="of careful requests, in all (default: none)")
    add("--model", action="append", default=[], metavar="NAME", help="only this model; may be repeated")
    add("--timeout", type=duration, default="10s", metavar="TIME", help="of a request")
    add("--header", action="append", default=[], metavar="NAME=VALUE", help="sent with every request")
    add("--repository", type=Path, help="the models' files, for --apply-and-measure")
    add("--apply-and-measure", action="store_true", help="try the three changes on an embedded server")
    add("--rounds", type=positive, default=Effort.rounds, metavar="N", help="of before and after")
    add("--hardware", choices=HARDWARE, default="auto", help="of the embedded server")
    add("--report", type=Path, default=Path("build/doctor"), help="folder of the page")
    return parser


def _connection(url: str, arguments: argparse.Namespace) -> Connection:
    place = url.removeprefix("http://").rstrip("/")
    return Connection("http", place, arguments.timeout, 0, headers_from(arguments.header))


def _watch(place: int, arguments: argparse.Namespace) -> Watch:
    connection = _connection(arguments.urls[place], arguments)
    given = arguments.metrics_url[place] if place < len(arguments.metrics_url) else None
    usual = at_port(connection.url, 8002) if host_and_port(connection.url)[1] == 8000 else None
    metrics = given or metrics_address(None) or usual
    return Watch(connection, metrics, arguments.seconds, arguments.load, tuple(arguments.model))


@command()
def main() -> int:
    """Question the servers, and report."""
    arguments = _parser().parse_args()
    if arguments.apply_and_measure and not arguments.repository:
        raise InvalidInput("--apply-and-measure needs the models' files; give their --repository")
    if max(arguments.seconds, arguments.load) > _LONGEST_S:
        raise InvalidInput(f"expected --seconds and --load of at most {_LONGEST_S} s")
    try_folder(arguments.report, "--report")
    arguments.urls = arguments.urls or [default_url("http")]
    servers = [see(_watch(place, arguments)) for place in range(len(arguments.urls))]
    found = diagnose(servers)
    report = Report(servers, found, changes(found), upgrade(servers[0]))
    if arguments.apply_and_measure:
        effort = Effort(arguments.repository, arguments.hardware, arguments.rounds)
        report = replace(report, proofs=prove(report.changes, servers, effort))
    show(report)
    say(f"Report: {write(report, arguments.report)}")
    print_json(report.document())
    return 0 if report.is_healthy else 1


if __name__ == "__main__":
    sys.exit(main())
