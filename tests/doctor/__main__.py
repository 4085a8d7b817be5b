"""Deliberately ill servers, one fault each: does the doctor name it first? And are its predictions right?

Every server is a real one with a model of known times under real traffic; a healthy one is the control. Where the
change is one of settings or callers, it is applied to an embedded server and measured. The last line of stdout is one
JSON document; exit code 1 means that more than one fault was not named first, or that the healthy server was called
ill.

    python -m tests.doctor
    python -m tests.doctor 'queue delay' healthy
"""

import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from clients.command import command, command_parser, duration, positive, print_json, say, text_table
from tests.doctor.ill import FAULTS, HEALTHY, Fault, calling, observed, outside_address, serving
from tools.doctor.diagnose import changes, diagnose
from tools.doctor.observation import Seen
from tools.doctor.proof import Effort, prove

_NAME, _HEALTHY = "patient", "healthy"
_MISSES = 1


def _observe(fault: Fault, folder: Path, seconds: float) -> list[Seen]:
    with ExitStack() as stack:
        servers = [stack.enter_context(serving(folder / "ill", [_NAME], lambda _: fault))]
        if twin := fault.twin:
            servers.append(stack.enter_context(serving(folder / "twin", [_NAME], lambda _: Fault(twin))))
        stack.enter_context(calling(servers[0].http, _NAME, fault))
        time.sleep(1)
        return [observed(server, seconds, 1.5 if fault.callers else 0.0) for server in servers]


def _row(name: str, seconds: float, rounds: int) -> dict[str, Any]:
    fault = FAULTS.get(name, HEALTHY)
    with TemporaryDirectory() as scratch:
        seen = _observe(fault, Path(scratch), seconds)
        found = [one for one in diagnose(seen) if one.is_serious]
        first = found[0].finding.bound if found else _HEALTHY
        row = {"planted": name, "first": first, "right": first == name, "found": len(found)}
        row |= {"predicted": None, "measured": None, "figure": ""}
        if first == name and found and found[0].finding.predicted:
            (proof,) = prove(changes(found)[:1], seen, Effort(Path(scratch) / "ill", "cpu", rounds))
            if proof.predicted and proof.measured:
                row |= {"predicted": round(proof.predicted.factor, 2), "measured": round(proof.measured.factor, 2)}
                row["figure"] = f"{proof.measured.before:,.0f} to {proof.measured.after:,.0f} {proof.measured.figure}"
    for one in found:
        say(f"  {one}")
    return row


@command()
def main() -> int:
    """Make servers ill, and have them examined."""
    parser = command_parser("tests.doctor", __doc__)
    parser.add_argument("faults", nargs="*", choices=[*FAULTS, _HEALTHY, []], metavar="FAULT", help="default: all")
    parser.add_argument("--seconds", type=duration, default="3s", metavar="TIME", help="to watch each server")
    parser.add_argument("--rounds", type=positive, default=3, help="of each measurement")
    arguments = parser.parse_args()
    names = arguments.faults or [_HEALTHY, *FAULTS]
    if not outside_address():
        names.remove("admin APIs open")
    rows = []
    for name in names:
        say(f"{name} …")
        rows.append(_row(name, arguments.seconds, arguments.rounds))
    print(text_table([list(rows[0]), *(["-" if cell is None else str(cell) for cell in row.values()] for row in rows)]))
    print_json({"faults": rows})
    missed = [row["planted"] for row in rows if not row["right"]]
    return int(len(missed) > _MISSES or _HEALTHY in missed)


if __name__ == "__main__":
    sys.exit(main())
