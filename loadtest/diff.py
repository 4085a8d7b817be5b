"""Decide whether a run is worse than an earlier one, with an exit code for CI.

A figure is worse when the 95 % intervals of the two runs do not overlap and the difference is larger than the
tolerance, which stands for what no single run can know (another day, another neighbour on the host). The exit code is 0
when nothing is worse, 1 when something is, 2 when the runs cannot be compared. The page with both runs goes to
build/loadtest; the last line of stdout is one JSON document.

    python -m loadtest.diff build/loadtest/main.json build/loadtest/mnist_mlp-http-open.json --tolerance 0.1
"""

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from clients.command import command, command_parser, print_json, say, text_table
from clients.errors import InvalidInput
from clients.output import try_folder
from loadtest.options import REPORTS
from loadtest.report.comparison import changes, page_of, table
from loadtest.report.page import publish

# What two runs must have in common for a difference to be the server's.
_SAME = ("model", "protocol", "loop", "arrivals", "rate", "concurrency", "client_batch", "payload")


def read(path: Path) -> dict[str, Any]:
    """Read the report of a run; raises InvalidInput if it is none, or the run was not valid."""
    expected = "expected the JSON report of `python -m loadtest.run MODEL`"
    try:
        document: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInput(f"{path}: {reason}; {expected}") from error
    if not isinstance(document, dict) or "intervals_ms" not in document:
        raise InvalidInput(f"{path}: {expected}, which this is not")
    if not document["valid"]:
        raise InvalidInput(f"{path}: this run is not valid: {'; '.join(document['invalid_because'])}; repeat it")
    return document


def check_same_load(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Refuse runs of different loads: raises InvalidInput, which names the first difference."""
    for name in _SAME:
        if before[name] != after[name]:
            raise InvalidInput(
                f"different loads: {name} was {before[name]} and is {after[name]}; repeat one, or give --any-load"
            )


def _described(path: Path, run: dict[str, Any]) -> str:
    """Which file it is, when it was written, and of which run."""
    written = datetime.fromtimestamp(path.stat().st_mtime).isoformat(" ", "seconds")
    loads = {"rate": "{:g}/s", "concurrency": "{} callers", "arrivals": "{} arrivals"}
    load = ", ".join(form.format(run[name]) for name, form in loads.items() if run[name])
    return f"{path} of {written}: {run['model']}, {run['protocol']} {run['url']}, {load}, {run['duration_s']:g} s"


@command()
def main() -> int:
    """Compare two reports."""
    parser = command_parser("loadtest.diff", __doc__)
    parser.add_argument("before", type=Path, metavar="BEFORE.json")
    parser.add_argument("after", type=Path, metavar="AFTER.json")
    text = "relative difference to ignore (default: %(default)s)"
    parser.add_argument("--tolerance", type=float, default=0.05, help=text)
    parser.add_argument("--any-load", action="store_true", help="compare runs of different loads as well")
    parser.add_argument("--report", type=Path, default=REPORTS, help="folder of the page (default: %(default)s)")
    arguments = parser.parse_args()
    before, after = read(arguments.before), read(arguments.after)
    if not arguments.any_load:
        check_same_load(before, after)
    try_folder(arguments.report, "--report")
    compared = changes(before, after, arguments.tolerance)
    worse = [change.figure for change in compared if change.verdict == "worse"]
    described = _described(arguments.before, before), _described(arguments.after, after)
    print(f"before: {described[0]}\nafter:  {described[1]}\n{text_table(table(compared))}")
    files = {"before": str(arguments.before), "after": str(arguments.after)}
    document = {**files, "worse": worse, "changes": [change.document() for change in compared]}
    page, stem = page_of(described, (before, after), compared), f"{after['model']}-{after['protocol']}-diff"
    print_json(document)
    say(f"Page: {publish(page, document, arguments.report, stem)}")
    return int(bool(worse))


if __name__ == "__main__":
    sys.exit(main())
