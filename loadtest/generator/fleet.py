"""Several sending processes as one generator: a part of the schedule for each, a common start, merged records."""

import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import Any

from clients.errors import ServerUnavailable, ToolError
from loadtest.arrivals import part_of
from loadtest.generator.process import Order, Outcome, work
from loadtest.records import Records, merge

# From the signal to the start: by then every process has received it.
_LEAD_S = 0.2


@dataclass(frozen=True)
class Sent:
    """What all processes sent.

    Attributes:
        records: of all requests.
        started: the start on CLOCK_MONOTONIC, in seconds.
        cpu_s: CPU seconds of all processes.
        busiest: share of one core that the busiest process used in its busiest second.
        processes: number of processes.
    """

    records: Records
    started: float
    cpu_s: float
    busiest: float
    processes: int


class GeneratorError(ToolError):
    """A sending process died."""


def _split(order: Order, processes: int) -> list[Order]:
    connections = max(1, order.connections // processes)
    if order.due is not None:
        return [
            replace(order, due=part_of(order.due, index, processes), connections=connections)
            for index in range(min(processes, len(order.due)))
        ]
    count = min(processes, order.callers)
    callers = [order.callers // count + (index < order.callers % count) for index in range(count)]
    return [replace(order, callers=number, connections=number) for number in callers]


def send_all(order: Order, processes: int) -> Sent:
    """Carry out an order with a number of processes.

    Raises:
        ServerUnavailable: nothing answers at the address.
        GeneratorError: a process died.
    """
    # Spawned: a fork would inherit threads and sockets of gRPC and gevent in an unknown state.
    context = multiprocessing.get_context("spawn")
    workers: list[tuple[SpawnProcess, Pipe]] = []
    try:
        for part in _split(order, processes):
            ours, theirs = context.Pipe()
            worker = context.Process(target=work, args=(part, theirs), daemon=True)
            worker.start()
            theirs.close()
            workers.append((worker, ours))
        return _run(workers, order.target.connection.url)
    finally:
        for worker, pipe in workers:
            worker.terminate()
            worker.join()
            pipe.close()


def _run(workers: Sequence[tuple[SpawnProcess, Pipe]], url: str) -> Sent:
    for _, pipe in workers:
        reply = _receive(pipe)
        if reply != "ready":
            raise ServerUnavailable(f"no server answers at {url}: {reply}")
    started = time.monotonic() + _LEAD_S
    for _, pipe in workers:
        pipe.send(started)
    outcomes = _collect([pipe for _, pipe in workers])
    return Sent(
        merge([outcome.records for outcome in outcomes]),
        started,
        sum(outcome.cpu_s for outcome in outcomes),
        max(outcome.busiest for outcome in outcomes),
        len(outcomes),
    )


def _collect(pipes: Sequence[Pipe]) -> list[Outcome]:
    # In the order in which they end, so that a process that died is noticed at once.
    outcomes: dict[Any, Outcome] = {}
    while waiting := [pipe for pipe in pipes if pipe not in outcomes]:
        for pipe in wait(waiting):
            assert isinstance(pipe, Pipe)
            outcomes[pipe] = _receive(pipe)
    return [outcomes[pipe] for pipe in pipes]


def _receive(pipe: Pipe) -> Any:
    try:
        return pipe.recv()
    except EOFError as error:
        raise GeneratorError("a sending process died; its traceback is above") from error
