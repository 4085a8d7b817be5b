"""Asks everything that a server serves for answers that are known, and heals what does not give them.

Only a real inference shows that a model works: readiness stays true where a model's process has died, hangs or computes
nonsense. Two misses in a row are a sickness. The model is loaded anew; if that does not help, the server is started
anew; if that does not either, it is reported and left in peace. Where a model hangs or its process has died, and
the door has requests under way that another replica can answer, the server is started anew at once, which sends them
there. A model that is merely busy, and answers others meanwhile, is not sick.
"""

import asyncio
import itertools
import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from clients.aio import AsyncClient
from clients.errors import ClientError, DeadlineExceeded, InvalidInput, ServerUnavailable
from clients.golden import Case, Golden
from clients.statistics import counted
from tools.repository import RepositoryError
from tools.serve.healing import Processes, Ward, reload
from tools.serve.journal import Journal
from tools.serve.probes import Reply, ask, golden_of, zeros
from tools.serve.tritonserver import Server

_SHARE = 0.05  # of a model's time that its golden requests may take
_UNHEALED_S = 30.0  # between questions to a model that nothing has helped
# The first answer shows how fast a model is. Later ones may take this many times as long as the slowest of late.
_FIRST_S, _MARGIN, _FORGETTING = 30.0, 4.0, 0.9
_STATISTICS_S = 2.0
_GLANCE_S = 0.2  # between two looks at the processes of Python-based models
_COMPANY_S = 15.0  # to wait for another replica, before this one restarts
_GRACE_S = 1.0  # for what other models compute, before a server with one that hangs is ended


@dataclass(frozen=True)
class Care:
    """How replicas are looked after.

    Attributes:
        max_deaths: in a row, none after a minute of service, until the service gives up.
        interval_s: seconds between two golden requests to a model; 0 for none.
        patience_s: seconds that an answer may take at least.
    """

    max_deaths: int = 10
    interval_s: float = 2.0
    patience_s: float = 2.0


@dataclass(frozen=True)
class Surroundings:
    """What a watchdog may do about its replica.

    Attributes:
        restart: start the server anew, which ends the watch.
        out_of_service: keep requests away meanwhile.
        has_company: whether another replica is up; None where there is no other one.
        is_waited_for: whether somebody in front has requests under way here, and another replica to send them to.
    """

    name: str
    repository: Path
    restart: Callable[[], None]
    out_of_service: Callable[[], AbstractContextManager[None]]
    has_company: Callable[[], bool | None]
    is_waited_for: Callable[[], bool]


class Watchdog:
    """Watches one replica, life after life."""

    def __init__(self, surroundings: Surroundings, care: Care, journal: Journal):
        self.ward = Ward(surroundings.name, journal)
        self._around, self._care, self._journal = surroundings, care, journal
        self._healing = asyncio.Lock()
        self._served: dict[str, int] = {}
        self._probes: dict[str, Golden] = {}
        self._slowest: dict[str, float] = {}  # Seconds, of right answers.
        self._server: Server | None = None
        self._right: set[str] = set()  # Models that have answered rightly since that server's start.
        self._is_idle = False

    @property
    def is_satisfied(self) -> bool:
        """Whether each model has answered rightly since the server's start, and none is sick; or none can be asked."""
        is_right = bool(self._served) and self._served.keys() <= self._right and not self.ward.problems()
        return self._is_idle or is_right

    async def watch(self, server: Server) -> None:
        """Watch a server until it is to be started anew, or for ever."""
        if server is not self._server:
            self._server, self._right, self._is_idle = server, set(), False
        connection = server.endpoints.connection(2 * _FIRST_S)
        if connection is None:
            self._journal.tell("unwatched", "only gRPC with TLS is open", self._around.name)
            self._is_idle = True
            await asyncio.Event().wait()
        self._processes = Processes(server.pid, server.repository)
        async with AsyncClient(connection) as client:
            asking: list[asyncio.Task[None]] = []
            try:
                while (served := await self._index(client)) is not None:
                    self._is_idle = not served and await client.is_ready()
                    if not asking or (served != self._served and not self._healing.locked()):
                        await _cancel(asking)
                        self._served, self._probes = served, {}
                        asking = [asyncio.create_task(self._ask_for_ever(client, name)) for name in served]
                    await self._look_at_processes(client)
                    await self._wait()
                    for task in asking:
                        if task.done():
                            task.result()
            finally:
                await _cancel(asking)

    async def _wait(self) -> None:
        """Until the next look at everything, which comes early if a model's process has died."""
        end = time.monotonic() + self._care.interval_s
        while (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(left, _GLANCE_S))
            if self._processes.has_lost_one() and not self._healing.locked():
                return

    async def _index(self, client: AsyncClient) -> dict[str, int] | None:
        """The newest ready version of each model of the repository; None once the server is to be started anew."""
        problem = ""
        for _ in range(2):
            try:
                async with asyncio.timeout(self._care.patience_s):
                    ready = [entry for entry in await client.models() if entry.get("state") == "READY"]
            except (ServerUnavailable, DeadlineExceeded, TimeoutError) as error:
                problem = str(error) or f"nothing came within {self._care.patience_s:g} s"
                continue
            served: dict[str, int] = {}
            for entry in ready:
                if (self._around.repository / entry["name"]).is_dir():
                    served[entry["name"]] = max(int(entry["version"]), served.get(entry["name"], 0))
            return served
        self._restart("", f"the server does not answer: {problem}")
        return None

    async def _look_at_processes(self, client: AsyncClient) -> None:
        # Of several instances, one that has died is rarely the one that a golden request meets.
        for model in () if self._healing.locked() else self._processes.bereaved():
            if model in self._probes:
                miss = Reply("dead", "one of its processes has died")
                await self._heal(client, model, self._probes[model].cases[0], miss)

    async def _ask_for_ever(self, client: AsyncClient, model: str) -> None:
        probe = self._probes[model] = await self._probe(client, model)
        # Not all at once.
        is_well = model not in self.ward.problems()
        await asyncio.sleep(random.uniform(0, self._care.interval_s) if is_well else 0)
        for case in itertools.cycle(probe.cases):
            began = time.monotonic()
            miss = await self._sickness(client, model, case)
            if miss is None:
                if not self._healing.locked():
                    self.ward.is_right(model)
                await asyncio.sleep(max(self._care.interval_s, (time.monotonic() - began) / _SHARE))
            else:
                is_hopeful = await self._heal(client, model, case, miss)
                await asyncio.sleep(self._care.interval_s if is_hopeful else _UNHEALED_S)

    async def _probe(self, client: AsyncClient, model: str) -> Golden:
        try:
            golden = golden_of(model, self._served, self._around.repository)
        except (InvalidInput, RepositoryError) as error:
            golden = None
            self._journal.tell("unwatched", f"any answer will do: {error}", self._around.name, model)
        return golden or zeros(await client.contract(model))

    async def _sickness(self, client: AsyncClient, model: str, case: Case) -> Reply | None:
        """Two misses in a row, unless the model has answered somebody meanwhile."""
        if not (await self._ask(client, model, case)).is_miss:
            return None
        before = await _answered(client, model)
        again = await self._ask(client, model, case)
        is_busy = again.outcome == "late" and await _answered(client, model) > before
        return again if again.is_miss and not is_busy else None

    async def _ask(self, client: AsyncClient, model: str, case: Case) -> Reply:
        known = self._slowest.get(model)
        patience = max(self._care.patience_s, _FIRST_S if known is None else _MARGIN * known)
        reply = await ask(client, model, self._served[model], case, self._probes[model].tolerance, patience)
        if reply.outcome == "right":
            self._right.add(model)
            self._slowest[model] = max(reply.seconds, _FORGETTING * (known or 0.0))
        self._journal.asked(self._around.name, model, reply.outcome, reply.seconds)
        return reply

    async def _heal(self, client: AsyncClient, model: str, case: Case, miss: Reply) -> bool:
        """Try what was not tried yet; returns whether there is any hope left."""
        is_late = self._healing.locked()
        async with self._healing:
            if is_late or await self._is_not_it(client, model):
                return True
            patient = self.ward.admit(model, f"{miss.outcome}: {miss.words}")
            ways = [self._reload, self._start_anew]
            for way in reversed(ways) if miss.is_mute and self._around.is_waited_for() else ways:
                if way.__name__ not in patient.tried:
                    patient.tried.append(way.__name__)
                    if await way(client, model, case, miss):
                        return True
            if "report" not in patient.tried:
                patient.tried.append("report")
                self._journal.tell("unhealed", f"nothing has helped: {miss.words}", self._around.name, model)
            return False

    async def _is_not_it(self, client: AsyncClient, model: str) -> bool:
        """Whether versions have changed meanwhile, or a member of an ensemble is what is sick."""
        if await self._index(client) != self._served:
            return True
        for member in (await client.contract(model)).members:
            if member in self._probes and await self._sickness(client, member, self._probes[member].cases[0]):
                return True
        return False

    async def _reload(self, client: AsyncClient, model: str, case: Case, miss: Reply) -> bool:
        began = time.monotonic()
        with self._around.out_of_service():
            if miss.outcome == "late":
                self._processes.end(model)
            failure = await reload(client, model, self._served[model], self._around.repository)
            self._processes.forget(model)
            took = round(time.monotonic() - began, 2)
            words = f"cannot be loaded anew: {failure}" if failure else f"loaded anew in {took:g} s"
            self._journal.tell("reloaded", words, self._around.name, model, seconds=took)
            is_right = not failure and await self._sickness(client, model, case) is None
        if is_right:
            self.ward.is_right(model)
        return is_right

    async def _start_anew(self, client: AsyncClient, model: str, case: Case, miss: Reply) -> bool:
        is_missed = await self._is_missed()
        with self._around.out_of_service():
            if miss.is_mute and not is_missed:
                await asyncio.sleep(_GRACE_S)
            self._restart(model, f"the server starts anew: {miss.words}", is_missed)
        return True

    async def _is_missed(self) -> bool:
        """Wait for another replica to be up, for a while; whether callers will miss this one nevertheless."""
        deadline = time.monotonic() + _COMPANY_S
        while self._around.has_company() is False and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        return self._around.has_company() is False

    def _restart(self, model: str, words: str, is_missed: bool = False) -> None:
        alone = " (no other replica is up)" if is_missed else ""
        self._journal.tell("restarting", words + alone, self._around.name, model)
        self._around.restart()


async def _answered(client: AsyncClient, model: str) -> int:
    """How many requests a model has answered so far; 0 if nobody says."""
    try:
        async with asyncio.timeout(_STATISTICS_S):
            return sum(counted(entry).requests for entry in await client.statistics(model))
    except (ClientError, TimeoutError):
        return 0


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
