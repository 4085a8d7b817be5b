"""A service of one or more replicas: started one after the other, kept alive, drained and restarted by signals.

SIGTERM and Ctrl-C drain and stop it, SIGHUP restarts replica by replica. What stands in front of it, if anything does,
is told of every change of a replica's state.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import FrameType

from tools.ports import PortError, address_of, hold_ports, listening, numeric_host
from tools.serve.endpoints import NAMES, is_allowed
from tools.serve.journal import Journal
from tools.serve.launch import Options
from tools.serve.monitor import monitor
from tools.serve.notify import heartbeat_s, notify
from tools.serve.replica import Replica, State
from tools.serve.watchdog import Care

_LOOK_S = 0.5  # between two looks at what runs beside the servers
_APART = 10  # between the ports of two replicas, where they are not just any free ones
_AGENT = 3  # from a replica's port of metrics to its agent's


class Supervisor:
    """Owns the replicas; their names, ports and agent ports are fixed from here on.

    Attributes:
        on_state: called with a replica's name and state before the state is acted on.
        in_flight: how many requests to a replica run, as far as somebody in front knows.

    Raises:
        PortError: a port is taken or invalid.
    """

    def __init__(self, options: Options, count: int, care: Care, journal: Journal, page: socket.socket):
        # A replica's ports are its own while it restarts, too.
        self._held = _ports(options, count)
        self.replicas = [
            Replica(f"replica{number}", each, care, journal, _agent(options, number))
            for number, each in enumerate(_options(options, self._held))
        ]
        self._page = page
        self._journal = journal
        self._rolling: asyncio.Task[None] | None = None
        for each in self.replicas:
            each.others = [other for other in self.replicas if other is not each]

    @property
    def status_url(self) -> str:
        """HOST:PORT of /status and /metrics."""
        return address_of(self._page)

    def attach(self, on_state: Callable[[str, State], None], in_flight: Callable[[str], int | None]) -> None:
        """Tell somebody in front of every change of state, and ask there how many requests run."""
        for each in self.replicas:
            each.on_state, each.in_flight = on_state, in_flight

    def run(self, on_ready: Callable[[], None], check: Callable[[], None] | None = None) -> None:
        """Serve until SIGTERM or Ctrl-C; a second one waits for nothing.

        Args:
            on_ready: called once all replicas are up.
            check: raises a ToolError, which ends the service, when what runs beside it has ended.

        Raises:
            ServerError: a replica does not start for the first time, or dies again and again.
        """
        try:
            asyncio.run(self._run(on_ready, check))
        finally:
            for each in (*(replica.agent for replica in self.replicas), self._page, *self._held):
                each.close()

    async def _run(self, on_ready: Callable[[], None], check: Callable[[], None] | None) -> None:
        lives: list[asyncio.Task[None]] = []
        async with monitor(self.replicas, self._page, self._journal):
            with self._signals(asyncio.get_running_loop()):
                beating = asyncio.create_task(_beat())
                try:
                    await self._start(lives, on_ready)
                    await _until_one_ends(lives, check)
                finally:
                    notify("STOPPING=1")
                    self._stop()
                    results = await asyncio.gather(*lives, return_exceptions=True)
                    beating.cancel()
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _start(self, lives: list[asyncio.Task[None]], on_ready: Callable[[], None]) -> None:
        """Begin the lives, one after the other."""
        for each in self.replicas:
            lives.append(asyncio.create_task(each.live()))
            while each.state != "up":
                if any(life.done() for life in lives):
                    return
                await asyncio.sleep(0.02)
        on_ready()
        notify("READY=1")

    @contextmanager
    def _signals(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Drain on SIGTERM and Ctrl-C, and roll on SIGHUP, unless that is a terminal which closes."""
        received = 0

        def stop(number: int, frame: FrameType | None) -> None:
            nonlocal received
            received += 1
            if received > 1:
                for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    signal.signal(other, signal.SIG_IGN)
            loop.call_soon_threadsafe(self._stop if received == 1 else self._kill)

        def roll(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self._roll)

        wanted = {signal.SIGINT: stop, signal.SIGTERM: stop, signal.SIGHUP: stop if _has_terminal() else roll}
        before = {each: signal.getsignal(each) for each in wanted}
        caught = [each for each in wanted if before[each] is not signal.SIG_IGN]
        for each in caught:
            signal.signal(each, wanted[each])
        try:
            yield
        finally:
            # After a signal the service is ending: further ones must not disturb its last lines.
            for each in caught:
                signal.signal(each, signal.SIG_IGN if received else before[each])

    def _stop(self) -> None:
        for each in self.replicas:
            each.wish("stop")

    def _kill(self) -> None:
        for each in self.replicas:
            each.kill()

    def _roll(self) -> None:
        if self._rolling is None or self._rolling.done():
            self._rolling = asyncio.create_task(self._restart_in_turn())

    async def _restart_in_turn(self) -> None:
        alone = "" if len(self.replicas) > 1 else "; it is the only one, so requests fail meanwhile"
        self._journal.tell("rolling", f"restarting replica by replica{alone}")
        for each in self.replicas:
            starts = each.starts
            each.wish("roll")
            while each.starts == starts or each.state != "up":
                await asyncio.sleep(0.05)
        self._journal.tell("rolled", "all replicas have restarted")


def _ports(options: Options, count: int) -> list[socket.socket]:
    """Sockets that hold the ports of all replicas."""
    first = (options.http_port, options.grpc_port, options.metrics_port)
    wanted = [
        port + _APART * number if port and is_allowed(name, options.flags) else 0
        for number in range(count)
        for name, port in zip(NAMES, first, strict=True)
    ]
    return hold_ports(numeric_host(options.host), wanted)


def _options(options: Options, held: Sequence[socket.socket]) -> list[Options]:
    """The options of each replica, with ports of its own."""
    ports = [each.getsockname()[1] for each in held]
    return [
        replace(options, http_port=http, grpc_port=grpc, metrics_port=metrics)
        for http, grpc, metrics in zip(ports[::3], ports[1::3], ports[2::3], strict=True)
    ]


def _agent(options: Options, number: int) -> socket.socket:
    """Where a replica's state is told: at a port that a door elsewhere can know, if that is free, else at any."""
    host = numeric_host(options.host)
    with suppress(PortError):
        port = options.metrics_port + _AGENT + _APART * number if options.metrics_port else 0
        return listening(f"{host}:{port}")
    return listening(f"{host}:0")


async def _until_one_ends(lives: list[asyncio.Task[None]], check: Callable[[], None] | None) -> None:
    while not any(life.done() for life in lives):
        await asyncio.wait(lives, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
        if check:
            check()


async def _beat() -> None:
    """Show the service manager that this loop goes round."""
    seconds = heartbeat_s()
    while seconds:
        notify("WATCHDOG=1")
        await asyncio.sleep(seconds)


def _has_terminal() -> bool:
    with suppress(OSError):
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
        return True
    return False
