"""Ctrl-C, SIGTERM and SIGHUP: each unwinds a program in good order, as KeyboardInterrupt."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

_INTERRUPTING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM (a service manager's) and SIGHUP (a closed terminal's) unwind the program as Ctrl-C does.

    The first signal unwinds in good order, an event loop between two of its steps; a second one unwinds at once; more
    are ignored, so that children are stopped and nothing is left behind. A signal that the program was started to
    ignore stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received = 0

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received += 1
        events = sys.modules.get("asyncio.events")  # Importing asyncio takes longer than `--help` should.
        if received > 1:
            for caught in before:
                signal.signal(caught, signal.SIG_IGN)
        elif events and (loop := events._get_running_loop()):
            # Within a step of the loop, KeyboardInterrupt could leave it hanging.
            loop.call_soon_threadsafe(_raise_interrupt)
            return
        raise KeyboardInterrupt

    caught = [number for number in _INTERRUPTING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in caught}
    try:
        yield
    finally:
        # After a signal the program is ending: further ones must not disturb its last lines.
        for number, handler in before.items():
            is_ignored = received or signal.getsignal(number) is signal.SIG_IGN
            signal.signal(number, signal.SIG_IGN if is_ignored else handler)


def _raise_interrupt() -> NoReturn:
    raise KeyboardInterrupt
