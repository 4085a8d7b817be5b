"""Inject faults into a service under constant load, and see when they are noticed and mended: `python -m tests.faults`.

Two replicas serve a model of these tests; a caller of each protocol asks one that takes requests, as a load balancer
would choose it. The last line of stdout is one JSON document; exit code 1 means that a fault took longer than 10 s.

    python -m tests.faults                                   # all faults, at the default interval of the watchdog
    python -m tests.faults 'kill -9 of a replica'
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from clients.command import command, command_parser, print_json, say, text_table
from tests.faults.load import constant_load
from tests.faults.service import FAULTS, Service, service, suffer

_LIMIT_S = 10.0


def _row(running: Service, name: str) -> dict[str, Any]:
    with constant_load(running.chooser()) as tally:
        outcome = suffer(running, FAULTS[name])
    kinds = ", ".join(f"{count} {kind}" for kind, count in tally.failures.items() if count)
    row = {
        "fault": name,
        "noticed s": round(outcome.noticed_s, 2),
        "mended s": round(outcome.mended_s, 2),
        "answered": tally.right,
        "failed": tally.failed,
        "kinds": kinds or "-",
    }
    say("  ".join(map(str, row.values())))
    return row


@command()
def main() -> int:
    """Inject the faults, one after the other, each into a service of its own."""
    parser = command_parser("tests.faults", __doc__)
    parser.add_argument("faults", nargs="*", choices=[*FAULTS, []], metavar="FAULT", help=f"of {', '.join(FAULTS)}")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.faults or FAULTS:
        with TemporaryDirectory() as folder, service(Path(folder), "--watch=2", "--watch-timeout=2") as running:
            rows.append(_row(running, name))
    print(text_table([list(rows[0]), *([str(value) for value in row.values()] for row in rows)]))
    print_json({"faults": rows})
    return int(any(row["mended s"] > _LIMIT_S for row in rows))


if __name__ == "__main__":
    sys.exit(main())
