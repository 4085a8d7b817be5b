"""Inject faults into a service under constant load, and see when they are noticed and mended: `python -m tests.faults`.

Two replicas behind the front door serve a model of these tests; callers of both protocols ask there, one request after
the other, without retries of their own. The last line of stdout is one JSON document; exit code 1 means that a fault
took longer than 10 s, or something was left behind.

Full disks need a mount namespace (root, or a kernel that grants one), a clock that jumps a C compiler; without them,
those faults are left out.

    python -m tests.faults                                   # all faults, at the default interval of the watchdog
    python -m tests.faults 'kill -9 of a replica'
"""

import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from clients.command import command, command_parser, print_json, say, text_table
from tests.faults.around import AROUND, SHARED_MEMORY, clock_variables, small
from tests.faults.load import constant_load
from tests.faults.service import FAULTS, Outcome, Service, door_flags, service, suffer

_LIMIT_S = 10.0
_CALLERS = 2  # of each protocol
_INSIDE = "TESTS_FAULTS_NAMESPACE"  # set in a mount namespace of this command's own


def _enter_namespace() -> None:
    """Run this command again in a mount namespace of its own, if there is one to be had."""
    own = ["unshare", "--mount", "--propagation", "private", *(["--map-root-user"] if os.getuid() else [])]
    if _INSIDE not in os.environ and subprocess.run([*own, "true"], capture_output=True).returncode == 0:
        os.execvpe(own[0], [*own, sys.executable, "-m", "tests.faults", *sys.argv[1:]], {**os.environ, _INSIDE: "1"})


def _impossible(name: str) -> str:
    """Why a fault cannot be made here; empty if it can."""
    if "full" in name and _INSIDE not in os.environ:
        return "needs a mount namespace; run it as root"
    return "needs a C compiler" if "clock" in name and not shutil.which("cc") else ""


def _suffer(running: Service, name: str, later: ExitStack) -> Outcome:
    return AROUND[name](running, later) if name in AROUND else suffer(running, FAULTS[name])


def _row(name: str, folder: Path) -> dict[str, Any]:
    flags = ["--watch=2", "--watch-timeout=2", *door_flags(folder)]
    with (
        small(folder / "logs", "logs") if "logs" in name else nullcontext(),
        small(SHARED_MEMORY, "shm") if "shm" in name else nullcontext(),
        service(folder, *flags, **(clock_variables(folder) if "clock" in name else {})) as running,
        ExitStack() as later,
        constant_load(running.door_chooser(), _CALLERS) as tally,
    ):
        time.sleep(1)
        outcome = _suffer(running, name, later)
        time.sleep(1)
    failures = ", ".join(f"{count} {kind}" for kind, count in sorted(tally.failures.items()))
    row = {
        "fault": name,
        "noticed s": outcome.noticed_s,
        "mended s": outcome.mended_s,
        "answered": tally.right,
        "longest s": round(tally.longest_s, 2),
        "failed": tally.failed,
        "kinds": failures or "-",
    }
    say("  ".join(map(str, row.values())))
    return row


@command()
def main() -> int:
    """Inject the faults, one after the other, each into a service of its own."""
    parser = command_parser("tests.faults", __doc__)
    every = [*FAULTS, *AROUND]
    parser.add_argument("faults", nargs="*", choices=[*every, []], metavar="FAULT", help=f"of {', '.join(every)}")
    arguments = parser.parse_args()
    _enter_namespace()
    rows = []
    for name in arguments.faults or every:
        if reason := _impossible(name):
            say(f"{name}: left out, it {reason}")
            continue
        with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            rows.append(_row(name, Path(folder)))
    if rows:
        print(text_table([list(rows[0]), *([str(value) for value in row.values()] for row in rows)]))
    print_json({"faults": rows})
    return int(any((row["mended s"] or 0) > _LIMIT_S for row in rows))


if __name__ == "__main__":
    sys.exit(main())
