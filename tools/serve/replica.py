"""One tritonserver that is started again whenever it ends, on the same ports, under the same name."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Literal

from clients.errors import ClientError, ToolError
from tools.ports import ANY, numeric_host
from tools.repository import RepositoryError
from tools.serve.endpoints import Endpoints, endpoints
from tools.serve.gaps import fill_gaps
from tools.serve.journal import Journal
from tools.serve.launch import Options
from tools.serve.server_error import ServerError
from tools.serve.tritonserver import Server
from tools.serve.watchdog import Care, Surroundings, Watchdog

State = Literal["starting", "up", "draining", "down"]
Wish = Literal["stop", "roll", "restart"]
# What HAProxy's agent check reads: `drain` takes no new requests, `down` is not waited for.
AGENT_ANSWERS: dict[State, str] = {"starting": "down", "up": "up ready", "draining": "drain", "down": "down"}
_LOOK_S = 0.1  # between two looks at the process
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.1, 5.0
_STEADY_S = 60.0  # a replica that lived so long has recovered from earlier deaths
_GAP_S, _LONGEST_GAP_S = 2.0, 30.0  # between two tries to load what is missing; of a service without this replica
_NOTICE_S = 1.0  # for those who ask at the agent's port, once a replica drains
_DRAIN_S = 10.0
_IDLE_STOP_S = 2.0


class Replica:
    """A server's lives, one after the other.

    Attributes:
        options: with the ports that it keeps.
        agent: where a load balancer asks for the state.
        on_state: called with name and state before the state is acted on.
        in_flight: how many of its requests run, as far as somebody in front knows.
        others: the other replicas of the service.
    """

    def __init__(self, name: str, options: Options, care: Care, journal: Journal, agent: socket.socket):
        self.name, self.care = name, care
        self.options = replace(options, on_log=lambda line: journal.log(name, line))
        self.on_state: Callable[[str, State], None] = lambda name, state: None
        self.in_flight: Callable[[str], int | None] = lambda name: None
        self.others: Sequence[Replica] = ()
        self.agent = agent
        self.server: Server | None = None
        self.state: State = "down"
        self.deaths = self.starts = 0
        around = Surroundings(
            name, options.repository, self._restart, self.out_of_service, self._has_company, self._is_waited_for
        )
        self.watchdog = Watchdog(around, care, journal) if care.interval_s else None
        self._journal = journal
        self._wish: Wish | None = None
        self._wished = asyncio.Event()
        journal.expect(name)

    @property
    def endpoints(self) -> Endpoints:
        """Where it listens in every life."""
        host, given = numeric_host(self.options.host), self.options
        ports = (given.http_port, given.grpc_port, given.metrics_port)
        return endpoints(ANY.get(host, host), ports, given.flags)

    async def live(self) -> None:
        """Serve until told to stop.

        Raises:
            ServerError: the first start failed, or it died too often.
        """
        while self._wish != "stop":
            self._wish = None
            self._wished.clear()
            began = time.monotonic()
            try:
                await self._serve()
            except ToolError as error:
                if self._wish != "stop":
                    await self._survive(error, time.monotonic() - began)

    def wish(self, wish: Wish) -> None:
        """Ask for an end: after what runs ("stop", "roll" to start anew), or at once ("restart")."""
        if self._wish == "stop":
            return
        self._wish = wish
        self._wished.set()
        if wish == "restart":
            self._enter("down")
        if wish == "stop" and self.state == "starting" and self.server:
            self.server.kill()

    def kill(self) -> None:
        """Wait for nothing any more."""
        self.wish("stop")
        if self.server:
            self.server.kill()

    @contextmanager
    def out_of_service(self) -> Iterator[None]:
        """Take no requests meanwhile, if others do."""
        if self.state == "up" and self._has_company():
            self._enter("draining")
        try:
            yield
        finally:
            if self.state == "draining" and not self._wish:
                self._enter("up")

    def _restart(self) -> None:
        self.wish("restart")

    def _has_company(self) -> bool | None:
        return any(other.state == "up" for other in self.others) if self.others else None

    def _is_waited_for(self) -> bool:
        return bool(self._has_company() and self.in_flight(self.name))

    def _enter(self, state: State) -> None:
        if state != self.state:
            self.state = state
            self._journal.replica_is(self.name, state == "up")
            self._journal.tell(state, f"is {state}", self.name)
            try:
                self.on_state(self.name, state)
            except ToolError as error:  # What stands in front has troubles of its own; it asks the agent, too.
                self._journal.tell("untold", f"nobody was told that it is {state}: {error}", self.name)

    async def _serve(self) -> None:
        """One life; returns when it was wished to end, raises ServerError when it ended by itself."""
        self._enter("starting")
        self.server = server = Server(self.options)
        filling: asyncio.Task[None] | None = None
        try:
            await asyncio.to_thread(server.__enter__)
            self.starts += 1
            if server.failures:
                self._journal.tell(
                    "lenient", f"serves the other models: {'; '.join(server.failures.values())}", self.name
                )
                missing = await self._fill_gaps(server, set(server.failures))
                filling = asyncio.create_task(self._fill_gaps_for_ever(server, missing))
                await self._await_gaps(server, filling)
            self._enter("up")
            await self._attend(server)
        finally:
            if filling:
                filling.cancel()
            if self.state != "draining":
                self._enter("down")
            await asyncio.to_thread(server.__exit__, None, None, None)
            self._enter("down")

    async def _fill_gaps(self, server: Server, missing: set[str]) -> set[str]:
        """Try to load what did not load as the server started; returns what is missing still."""
        loaded = await fill_gaps(server, missing)
        for model, words in loaded.items():
            self._journal.tell("loaded", words, self.name, model)
        return missing - set(loaded)

    async def _fill_gaps_for_ever(self, server: Server, missing: set[str]) -> None:
        pause = _GAP_S
        while missing:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_GAP_S)
            missing = await self._fill_gaps(server, missing)

    async def _await_gaps(self, server: Server, filling: "asyncio.Task[None]") -> None:
        """Wait for a while until the server lacks no model, if another one takes the requests meanwhile."""
        deadline = time.monotonic() + _LONGEST_GAP_S
        while not filling.done() and self._has_company() and not self._wish and time.monotonic() < deadline:
            server.check()
            await asyncio.wait([filling], timeout=_LOOK_S)

    async def _attend(self, server: Server) -> None:
        watching = asyncio.create_task(self._watch(server))
        try:
            while not self._wish:
                server.check()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wished.wait(), _LOOK_S)
        finally:
            watching.cancel()
            await asyncio.wait([watching])
        server.check()
        if self._wish == "restart":
            server.kill()
        else:
            self._enter("draining")
            await self._drain(server)

    async def _watch(self, server: Server) -> None:
        while self.watchdog:
            try:
                await self.watchdog.watch(server)
            except ClientError:  # The server is in trouble, which the process or the next look will show.
                pass
            except Exception as error:  # A mistake of ours: what it watches is served nevertheless.
                self._journal.tell("unwatched", f"the watchdog failed and begins anew: {error!r}", self.name)
            await asyncio.sleep(self.care.interval_s)

    async def _drain(self, server: Server) -> None:
        """Wait until callers have noticed and nothing runs; what still does then, tritonserver itself waits for."""
        if not self.others and self.in_flight(self.name) is None:
            return
        began = time.monotonic()
        while (passed := time.monotonic() - began) < _DRAIN_S and server.is_running:
            running = self.in_flight(self.name)
            if running == 0 or (running is None and passed > _NOTICE_S):
                break
            await asyncio.sleep(0.05)
        if self.in_flight(self.name) == 0:
            server.hurry(_IDLE_STOP_S)

    async def _survive(self, error: ToolError, lived_s: float) -> None:
        """Count a death and wait a little; raises the error where it is one too many."""
        self.deaths = 1 if lived_s > _STEADY_S else self.deaths + 1
        if not self.starts or self.care.max_deaths == 1:
            raise error
        if self.deaths >= self.care.max_deaths:
            raise ServerError(f"{self.name} died {self.deaths} times, never after {_STEADY_S:g} s: {error}") from error
        delay = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2 ** (self.deaths - 1))
        reason, _, log = str(error).partition("\n")
        reason = reason.removesuffix("; its log ends:")
        self._journal.tell("died", f"{reason}; starts again", self.name, delay_s=delay, log=log)
        if isinstance(error, RepositoryError) or (self.server and self.server.failures):
            self.options = replace(self.options, is_lenient=True)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wished.wait(), delay)
