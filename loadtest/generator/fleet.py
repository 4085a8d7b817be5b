"""Several sending processes as one generator: a common start, a part of the schedule for each, merged records."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import Any

from clients.errors import ServerUnavailable, ToolError
from loadtest.arrivals import part_of
from loadtest.generator.process import Order, Outcome, work
from loadtest.records import Records, merge

# From the word to the start: by then every process has heard it.
LEAD_S = 0.2
TICK_S = 1.0


@dataclass(frozen=True)
class Sent:
    """What all processes did together.

    Attributes:
        records: of all requests.
        started: the start as a moment of CLOCK_MONOTONIC, in seconds.
        cpu_s: processor seconds of all processes.
        busiest: share of one core that the busiest process took in its busiest second.
        processes: how many there were.
    """

    records: Records
    started: float
    cpu_s: float
    busiest: float
    processes: int


class GeneratorError(ToolError):
    """A sending process died; the message says which and how."""


def shares(order: Order, processes: int) -> list[Order]:
    """An order for each process; none gets less than one caller."""
    connections = max(1, order.connections // processes)
    if order.due is not None:
        return [
            replace(order, due=part_of(order.due, index, processes), connections=connections)
            for index in range(min(processes, len(order.due)))
        ]
    count = min(processes, order.callers)
    callers = [order.callers // count + (index < order.callers % count) for index in range(count)]
    return [replace(order, callers=one, connections=one) for one in callers]


def send_all(order: Order, processes: int, tick: Callable[[], None] = lambda: None) -> Sent:
    """Carry out an order with so many processes; `tick` is called about once a second meanwhile.

    Raises:
        ServerUnavailable: nothing answers at the address.
        GeneratorError: a process died.
    """
    # Fresh processes: a fork would take over threads and sockets of gRPC's and gevent's in an unknown state.
    context = multiprocessing.get_context("spawn")
    workers: list[tuple[SpawnProcess, Pipe]] = []
    try:
        for share in shares(order, processes):
            ours, theirs = context.Pipe()
            worker = context.Process(target=work, args=(share, theirs), daemon=True)
            worker.start()
            theirs.close()
            workers.append((worker, ours))
        return run(workers, order.target.connection.url, tick)
    finally:
        for worker, pipe in workers:
            worker.terminate()
            worker.join()
            pipe.close()


def run(workers: Sequence[tuple[SpawnProcess, Pipe]], url: str, tick: Callable[[], None]) -> Sent:
    """Wait until all are ready, give the word, collect."""
    for _, pipe in workers:
        said = receive(pipe)
        if said != "ready":
            raise ServerUnavailable(f"no server answers at {url}: {said}")
    started = time.monotonic() + LEAD_S
    for _, pipe in workers:
        pipe.send(started)
    outcomes = collect([pipe for _, pipe in workers], tick)
    return Sent(
        merge([one.records for one in outcomes]),
        started,
        sum(one.cpu_s for one in outcomes),
        max(one.busiest for one in outcomes),
        len(outcomes),
    )


def collect(pipes: Sequence[Pipe], tick: Callable[[], None]) -> list[Outcome]:
    """The outcome of every process, in whatever order they end."""
    found: dict[Any, Outcome] = {}
    while len(found) < len(pipes):
        ready = wait([pipe for pipe in pipes if pipe not in found], TICK_S)
        for pipe in ready:
            assert isinstance(pipe, Pipe)
            found[pipe] = receive(pipe)
        if not ready:
            tick()
    return [found[pipe] for pipe in pipes]


def receive(pipe: Pipe) -> Any:
    """What a process says next."""
    try:
        return pipe.recv()
    except EOFError as error:
        raise GeneratorError("a sending process died; its traceback stands above") from error
