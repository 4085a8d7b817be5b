"""Sending on time on a busy host: where the user may, a sending process goes before all others.

A sender that is woken late measures the host's scheduler. It needs little of the processor, and what it needs it needs
at once. On two shared cores, both busy, it is late by 4 ms at p99 as any process, with niceness -10 too, and by 0.2 ms
so.
"""

import os
from contextlib import suppress

PRIORITY = os.sched_param(1)


def go_first() -> None:
    """Take this process out of turn (SCHED_RR); its later threads inherit it. Nothing happens without the right to."""
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, PRIORITY)
