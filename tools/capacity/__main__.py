"""Say how many replicas a rate of requests needs, by what one replica sustains: `python -m tools.capacity`.

Searches for the highest rate of one replica within the objectives, as loadtest.peak does, on a server of its own or the
one at --url, and divides. The report (HTML, Markdown, JSON) goes to build/loadtest; the last line of stdout is one JSON
document. Exit code: 0 done, 1 no number of replicas meets the objectives, because one does not at any rate that was
tried, 2 it could not be run, 3 the load generator was the bottleneck.

    python -m tools.capacity mnist_mlp --rate 3000 --slo 'p99<20ms'                        # one may fail (--spare 1)
    python -m tools.capacity mnist_mlp --rate 3000 --slo 'p99<20ms' --url 10.0.0.1:8000
    python -m tools.capacity mnist_mlp --rate 9000 --slo 'p99<20ms' --measured peak.txt    # what loadtest.peak printed
    python -m tools.capacity mnist_mlp --rate 3000 --slo 'p99<20ms' --spare 0 --utilization 0.7
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from clients.command import command, command_parser, positive_float, print_json, say, text_table
from clients.connection import add_connection_arguments
from clients.output import try_folder
from loadtest.analysis.audit import INVALID
from loadtest.options import REPORTS, add_generator_arguments
from loadtest.report.page import publish
from loadtest.report.peak_lines import add_search_arguments, peak_line
from tools.capacity.need import ASSUMED, Need, One, Wish
from tools.capacity.page import page_of
from tools.repository import REPOSITORY
from tools.serve.hardware import HARDWARE


def _parser() -> argparse.ArgumentParser:
    parser, default = command_parser("tools.capacity", __doc__), "(default: %(default)s)"
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--rate", type=positive_float, required=True, metavar="N", help="requests per second, in all")
    text = f"replicas that may be away at a time, by a failure or an update {default}"
    parser.add_argument("--spare", type=_count, default=Wish.spare, metavar="N", help=text)
    text = f"of what one sustains, the most that a replica may be given, up to 1 {default}"
    parser.add_argument("--utilization", type=_share, default=Wish.utilization, metavar="SHARE", help=text)
    text = "do not measure, but take what loadtest.peak or this command printed"
    parser.add_argument("--measured", type=Path, metavar="FILE", help=text)
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help=f"of a server of its own {default}")
    parser.add_argument("--hardware", choices=HARDWARE, default="auto", help=f"of a server of its own {default}")
    parser.add_argument("--report", type=Path, default=REPORTS, help=f"folder of the report {default}")
    add_search_arguments(parser)
    add_generator_arguments(parser)
    add_connection_arguments(parser, retries=None)
    return parser


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise argparse.ArgumentTypeError(f"expected a whole number of replicas, got '{text}'")
    return int(text)


def _share(text: str) -> float:
    value = positive_float(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"expected a share above 0, up to 1, got '{text}'")
    return value


@command()
def main() -> int:
    """Measure one replica, and say how many are needed."""
    arguments = _parser().parse_args()
    from tools.capacity.single import measured

    try_folder(arguments.report, "--report")
    found = measured(arguments)
    wish = Wish(arguments.rate, arguments.spare, arguments.utilization)
    document: dict[str, Any] = {"model": arguments.model, "slo": arguments.slo, **vars(wish), "replicas": None}
    code, need = 0, None
    if found["generator_bound"]:
        say("the load generator was the bottleneck; try more --processes, or measure from another host with --url")
        code = INVALID
    elif found["sustained_rps"] is None:
        say(f"{arguments.model} met {arguments.slo} at no rate that was tried: more replicas would not help")
        code = 1
    else:
        if not found["narrow"]:
            say("the interval is wide; a longer --budget makes it narrow")
        need = Need(One(found["peak_rps"], found["low_rps"], found["high_rps"]), wish)
        print(peak_line(found), text_table(need.table()), need.answer, sep="\n")
        print(*(f"assumed: {each}" for each in ASSUMED), sep="\n")
        document |= {"replicas": need.replicas, "likely_replicas": need.likely, "least_replicas": need.least}
    document |= {"assumed": ASSUMED, "measured": found}
    print_json(document)
    if need:
        path = publish(page_of(need, found), document, arguments.report, f"{arguments.model}-capacity")
        say(f"Report: {path}")
    return code


if __name__ == "__main__":
    sys.exit(main())
