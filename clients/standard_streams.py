"""Standard input, output and error as a program may find them: closed at its start, or without a reader."""

import os
import select
import sys
from contextlib import suppress


def open_closed_streams() -> None:
    """Stand in for standard streams that were closed at the start: the next files to be opened would take their place.

    With them, the output of children would go into a file of ours.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            # It gets the lowest number that is free: this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "r" if name == "stdin" else "w", closefd=False))  # noqa: SIM115


def is_stdout_broken() -> bool:
    """Whether stdout is a pipe whose reader is gone."""
    poll = select.poll()
    with suppress(OSError):  # Tests replace stdout by something without a descriptor.
        poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
