"""Child processes that end with the process that started them, however it ended.

A parent that is killed can stop nothing any more. So its children ask the kernel for a signal at its death (Linux's
parent-death signal, which counts as death that the thread ends which started the child).
"""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_PDEATHSIG = 1
# Python ignores SIGPIPE, and a program would inherit that.
_LEASH = f"""
import ctypes, os, signal, sys
number, parent, *line = sys.argv[1:]
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, int(number))
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
if os.getppid() == int(parent):
    os.execvp(line[0], line)
"""


def end_with(parent: int) -> None:
    """Have this process killed when its parent ends, or now if it has ended; for children that are Python of ours."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def leashed(line: Sequence[str], number: signal.Signals = signal.SIGTERM) -> list[str]:
    """The command line that runs another one in such a way that it gets a signal when this process ends."""
    return [sys.executable, "-I", "-S", "-c", _LEASH, str(int(number)), str(os.getpid()), *line]


@contextmanager
def ending_all() -> Iterator[None]:
    """Kill what the block's children leave running, at its end: a process whose parent has ended becomes our child."""
    if sys.platform != "linux":
        yield
        return
    before = _children()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        while left := _children() - before:
            for child in left:
                with suppress(ProcessLookupError, ChildProcessError):
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0)


def _children() -> set[int]:
    found = set[int]()
    for thread in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # It has ended.
            found |= set(map(int, (thread / "children").read_text().split()))
    return found
