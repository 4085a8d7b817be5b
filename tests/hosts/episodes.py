"""What happens to a host while others call, and what came of it: who was served by whom, how soon, and who was not."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients.errors import ToolError
from tests.doctor.ill import Model
from tests.hosts.balance import Course, text
from tests.hosts.cluster import Calls, counted, list_replicas, model_of, replica, start_calls
from tests.hosts.network import Host, cut_off, slow
from tests.waiting import soon

_FIRST_S = 60.0  # for callers to start, until a replica has answered one
# Sleeping, so that the hosts share no processor time to speak of.
MODEL = Model(fixed=10.0, each=0.0, instances=2, more="")


@dataclass(frozen=True)
class Stage:
    """Three replicas, the address of the door before them, who calls, and how much."""

    replicas: Sequence[Host]
    caller: Host
    door: str
    folder: Path
    repository: Path
    rate: float  # requests per second of each protocol
    seconds: tuple[float, float, float]  # before something happens to the last replica, meanwhile, and afterwards

    @property
    def victim(self) -> Host:
        """Whom something happens to."""
        return self.replicas[-1]


@dataclass(frozen=True)
class Episode:
    """What happens; whether the victim serves before and after it, and whether it should meanwhile.

    `serves` is None where it may, but need not get an even share.
    """

    happen: Callable[[Stage], AbstractContextManager[None]]
    serves: bool | None
    is_there: bool = True


@contextmanager
def _serving(stage: Stage) -> Iterator[None]:
    """A new host, which the door is told of once it serves; at the end it drains, and its agent tells the door."""
    with replica(stage.victim, stage.folder, stage.repository):
        list_replicas(stage.folder, stage.replicas)
        yield


EPISODES = {
    "cut off": Episode(lambda stage: cut_off(stage.victim), False),
    "slow": Episode(lambda stage: slow(stage.victim), None),
    "joins, then leaves": Episode(_serving, True, False),
}


def play(stage: Stage, episode: Episode) -> list[dict[str, Any]]:
    """Let something happen while both protocols are called; a row of figures for each."""
    before, meanwhile, after = stage.seconds
    with counted(stage.replicas) as course:
        calls = start_calls(stage.caller, stage.door, stage.folder, stage.rate, before + meanwhile + after)
        began = _first_answer(course)
        time.sleep(before)
        times = [began, time.monotonic()]
        with episode.happen(stage):
            # Also where that took its time, such as the start of a server.
            time.sleep(max(0.0, times[1] + meanwhile - time.monotonic()))
            times.append(time.monotonic())
        results = [each.result() for each in calls]
        times.append(began + sum(stage.seconds))
    return [_row(stage, episode, course, times, each) for each in results]


def _first_answer(course: Course, within_s: float = _FIRST_S) -> float:
    def answered() -> list[float]:
        return [look[0] for looks in course.looks.values() for look in looks if sum(look[1:])]

    if not soon(lambda: bool(answered()), within_s):
        raise ToolError(f"no replica has answered a request within {within_s:g} s; see what the door logged")
    return min(answered())


def _row(stage: Stage, episode: Episode, course: Course, times: Sequence[float], calls: Calls) -> dict[str, Any]:
    others, everybody = [each.name for each in stage.replicas[:-1]], [each.name for each in stage.replicas]
    began, hit, mended, over = times
    names = everybody if episode.serves else others
    first = course.even_after(names, hit, mended) if episode.serves is not None else None
    second = course.even_after(everybody if episode.is_there else others, mended, over)
    return {
        "callers": calls.protocol,
        "sent": calls.sent,
        "failed": calls.failed,
        "kinds": calls.found["error_kinds"],
        "before": text(course.shares(calls.protocol, began, hit)),
        "meanwhile": text(course.shares(calls.protocol, hit + (first or 0), mended)),
        "after": text(course.shares(calls.protocol, mended + (second or 0), over)),
        "even again s": first,
        "even afterwards s": second,
        "p99 ms": calls.found["p99_ms"],
        "longest ms": calls.found["max_ms"],
    }


def write_models(repository: Path) -> None:
    """Write the model that callers of each protocol ask."""
    for protocol in ("http", "grpc"):
        MODEL.write(repository, model_of(protocol))
