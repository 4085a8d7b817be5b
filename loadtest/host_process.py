"""The processor time of a server on this host: found by the port that it listens on, its child processes included."""

import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
LISTENS = "0A"
TICKS = os.sysconf("SC_CLK_TCK")
# Positions in /proc/PID/stat, counted after the name in parentheses: parent, user time, system time.
PARENT, USER, SYSTEM = 1, 11, 12


def cpu_seconds(port: int) -> float | None:
    """What the process that listens on a port of this host, and its descendants, have used so far.

    Returns:
        Seconds; None where there is no such process here, or this user may not look at it.
    """
    pid = listener(port)
    if pid is None:
        return None
    stats = dict(statistics())
    family = {pid}
    # Children come after their parents nearly always; a few rounds find the rest.
    while more := {one for one, fields in stats.items() if int(fields[PARENT]) in family} - family:
        family |= more
    return sum(int(stats[one][USER]) + int(stats[one][SYSTEM]) for one in family if one in stats) / TICKS


def listener(port: int) -> int | None:
    """The process that listens on a port."""
    wanted = {f"socket:[{inode}]" for inode in sockets(port)}
    for pid in pids() if wanted else ():
        try:
            if any(os.readlink(entry) in wanted for entry in os.scandir(PROC / str(pid) / "fd")):
                return pid
        except OSError:
            continue  # It has ended, or belongs to somebody else.
    return None


def sockets(port: int) -> Iterator[str]:
    """The inodes of the sockets that listen on a port."""
    for table in ("tcp", "tcp6"):
        path = PROC / "net" / table
        for line in path.read_text().splitlines()[1:] if path.is_file() else ():
            fields = line.split()
            if fields[3] == LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]


def pids() -> list[int]:
    """All processes."""
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def statistics() -> Iterator[tuple[int, list[str]]]:
    """Each process with the fields of its status line that follow its name."""
    for pid in pids():
        try:
            yield pid, (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
