"""The processes in which the embedded server runs its models: the memory that each keeps to itself, processor time."""

import os
from pathlib import Path

PRIVATE = ("Private_Clean:", "Private_Dirty:")
TICKS = os.sysconf("SC_CLK_TCK")
# Positions in /proc/PID/stat, counted after the name in parentheses: user and system time.
USER, SYSTEM = 11, 12


def instances(server: int) -> dict[int, str]:
    """Process ids of a tritonserver's model instances, and the model that each runs."""
    found = {}
    for child in Path(f"/proc/{server}/task").glob("*/children"):
        for pid in child.read_text().split():
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if words[0].endswith(b"triton_python_backend_stub"):
                # The stub's first argument is <model>/<version>/<file>.
                found[int(pid)] = Path(words[1].decode()).parent.parent.name
    return found


def private_bytes(pid: int) -> int:
    """Memory that would be free if this process ended: what it shares with nobody."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(PRIVATE))


def cpu_seconds(server: int) -> float:
    """Processor seconds that a tritonserver and its model instances have used so far, user and system."""
    ticks = 0
    for pid in (server, *instances(server)):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[USER]) + int(fields[SYSTEM])
    return ticks / TICKS
