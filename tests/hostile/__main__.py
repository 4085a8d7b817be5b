"""Send hostile requests to a tritonserver and to two behind the front door: `python -m tests.hostile`.

The table says of each request what was answered, whether the server lived on, and how many requests of other callers
failed meanwhile, who ask for inferences over both protocols all the time. Then requests that are spoilt at random
follow. Exit code 1 if another caller's request failed at the door, or if the door does not answer in the end.

    python -m tests.hostile
    python -m tests.hostile --fuzz 10000 --seed 1
    python -m tests.hostile --only door
"""

import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clients.client import Client
from clients.command import command, command_parser, positive, print_json, progress_counter, say, text_table
from clients.connection import Connection, Protocol
from tests.e2e.serving import FREE_PORTS, Serving, name_of, serving
from tests.hostile import fuzz, over_grpc, over_http
from tests.hostile.over_grpc import Call
from tests.hostile.targets import Callers, door_address, send_grpc, send_http, write_repository
from tools.repository import REPOSITORY
from tools.serve.server_error import ServerError
from tools.serve.tritonserver import Options, Server

_SETTLE_S = 0.4  # for the failures that a request causes to show
_WORKERS = 8


class Direct:
    """A tritonserver that is started again when a request has ended it; on the same ports, so that callers find it."""

    def __init__(self, repository: Path):
        self._options, self._running = Options(repository), ExitStack()
        self.deaths = 0
        self._start()
        ports = {
            f"{name}_port": int(getattr(self.server, name).rpartition(":")[2]) for name in ("http", "grpc", "metrics")
        }
        self._options = Options(repository, **ports)

    def _start(self) -> None:
        self.server = self._running.enter_context(Server(self._options))
        self.addresses: dict[Protocol, str] = {"http": self.server.http, "grpc": self.server.grpc}

    def has_died(self) -> bool:
        """Whether it has died since the last question; it runs again after it."""
        try:
            self.server.check()
            return False
        except ServerError:
            self.deaths += 1
            self._running.close()
            self._start()
            return True

    def repair(self) -> None:
        """Load what a stranger has unloaded."""
        with Client(Connection("grpc", self.server.grpc)) as client:
            for model in client.models():
                if model.get("state") != "READY":
                    client.load(model["name"])

    def close(self) -> None:
        """End it."""
        self._running.close()


class Door:
    """`tools.serve` with two replicas and the front door."""

    def __init__(self, running: Serving):
        self._running = running
        address = door_address(running.line(60))
        self.addresses: dict[Protocol, str] = {"http": address, "grpc": address}
        self.deaths = 0
        self._replicas = self._tritons()

    def _tritons(self) -> set[int]:
        return {pid for pid in self._running.started() if name_of(pid) == "tritonserver"}

    def has_died(self) -> bool:
        """Whether a replica has died since the last question; both are there after it."""
        now = self._tritons()
        died = len(self._replicas - now)
        self.deaths += died
        deadline = time.monotonic() + 30
        while died and len(now := self._tritons()) < len(self._replicas) and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(3 if died else 0)  # It loads its models.
        self._replicas = now
        return died > 0


@dataclass
class Row:
    """What became of one request."""

    answer: str
    died: bool
    failures: list[str] = field(default_factory=list)

    @property
    def cells(self) -> list[str]:
        return [self.answer, "died" if self.died else "alive", str(len(self.failures))]


def attack(target: Direct | Door, callers: Callers, send: Callable[[], str]) -> Row:
    """Send one request, and look."""
    known = len(callers.failures)
    answer = send()
    time.sleep(_SETTLE_S)
    died = target.has_died()
    if isinstance(target, Direct):
        target.repair()
    return Row(answer, died, callers.failures[known:])


def senders(target: Direct | Door) -> Iterator[tuple[str, Callable[[], str]]]:
    """Every request of the table, as something to be called."""
    for name, sent in over_http.http_requests():
        yield f"HTTP {name}", lambda sent=sent: send_http(target.addresses["http"], sent)  # type: ignore[misc]
    for name, call in over_grpc.grpc_requests():
        yield f"gRPC {name}", lambda call=call: send_grpc(target.addresses["grpc"], call)  # type: ignore[misc]
    for how, path, body in over_http.CLOSED:
        sent = over_http.request(body.encode(), path, how)
        yield f"HTTP {how} {path}", lambda sent=sent: send_http(target.addresses["http"], sent)  # type: ignore[misc]
    for name, message in over_grpc.CLOSED:
        call = Call(name, message, 5.0)
        yield f"gRPC {name}", lambda call=call: send_grpc(target.addresses["grpc"], call)  # type: ignore[misc]


def fuzzed(target: Direct | Door, callers: Callers, count: int, seed: int) -> dict[str, Any]:
    """Send so many spoilt requests, several at once; what was answered, and who suffered."""
    seeds, known, deaths = (fuzz.http_seeds(), fuzz.grpc_seeds()), len(callers.failures), target.deaths

    def send(number: int) -> str:
        chance = random.Random(f"{seed} {number}")
        if chance.random() < 0.5:
            answer = send_http(target.addresses["http"], fuzz.spoilt_http(chance, seeds[0]), 3.0)
        else:
            answer = send_grpc(target.addresses["grpc"], fuzz.spoilt_grpc(chance, seeds[1]))
        advance(1)
        return answer

    outcomes: Counter[str] = Counter()
    with progress_counter("requests", count) as advance, ThreadPoolExecutor(_WORKERS) as pool:
        for first in range(0, count, 50):
            outcomes.update(pool.map(send, range(first, min(count, first + 50))))
            target.has_died()
    failures = callers.failures[known:]
    return {
        "outcomes": dict(outcomes),
        "deaths": target.deaths - deaths,
        "failures": len(failures),
        "first": failures[:3],
    }


@contextmanager
def targets(names: list[str], repository: Path, scratch: Path) -> Iterator[dict[str, Direct | Door]]:
    """Those of the two that are wanted, running."""
    with ExitStack() as running:
        found: dict[str, Direct | Door] = {}
        if "direct" in names:
            found["direct"] = Direct(repository)
            running.callback(found["direct"].close)  # type: ignore[union-attr]
        if "door" in names:
            door = ("--front", "127.0.0.1:0", "--operator", "127.0.0.1:0", "--replicas", "2", "--request-timeout", "2")
            # A restart for each death, however many.
            arguments = ("--repository", repository, *FREE_PORTS, *door, "--max-deaths", "100000")
            found["door"] = Door(running.enter_context(serving(scratch / "run", *arguments)))
        yield found


@command()
def main() -> int:
    """Attack."""
    parser = command_parser("tests.hostile", __doc__)
    parser.add_argument("--only", choices=("direct", "door"), help="one of the two (default: both)")
    parser.add_argument("--fuzz", type=positive, default=0, metavar="N", help="spoilt requests after the table")
    parser.add_argument("--skip-table", action="store_true", help="send only the spoilt ones")
    parser.add_argument("--seed", type=int, default=1, help="(default: %(default)s)")
    arguments = parser.parse_args()
    names = [arguments.only] if arguments.only else ["direct", "door"]
    document: dict[str, Any] = {}
    table: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as calling:
        repository = write_repository(REPOSITORY, Path(scratch) / "models")
        found = calling.enter_context(targets(names, repository, Path(scratch)))
        for way, target in found.items():
            with Callers(target.addresses).calling() as callers:
                time.sleep(1)
                for name, send in () if arguments.skip_table else senders(target):
                    row = attack(target, callers, send)
                    table.setdefault(name, []).extend(row.cells)
                    say(f"{way} {name}: {', '.join(row.cells)}{' ' + row.failures[0][:200] if row.failures else ''}")
                failed, deaths = len(callers.failures), target.deaths
                spoilt = fuzzed(target, callers, arguments.fuzz, arguments.seed) if arguments.fuzz else None
                answered = dict(callers.answered)
            document[way] = {"failures": failed, "deaths": deaths, "others_answered": answered, "fuzz": spoilt}
    header = ["request", *(f"{way}: {column}" for way in names for column in ("answer", "server", "others failed"))]
    print(text_table([header, *([name, *cells] for name, cells in table.items())]))
    print_json({"requests": len(table), **document})
    door = document.get("door", {})
    return int(bool(door.get("failures") or (door.get("fuzz") or {}).get("failures")))


if __name__ == "__main__":
    sys.exit(main())
