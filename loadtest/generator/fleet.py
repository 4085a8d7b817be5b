"""Several sending processes as one generator: a part of the schedule for each, a common start, merged records."""

import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import Any

from clients.errors import ServerUnavailable, ToolError
from loadtest.generator.process import Order, Sent, work
from loadtest.load import part_of
from loadtest.records import merge

# From the signal to the start: by then every process has received it.
_LEAD_S = 0.2


class GeneratorError(ToolError):
    """A sending process died."""


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
        return _run([pipe for _, pipe in workers], order.target.connection.url)
    finally:
        for worker, pipe in workers:
            worker.terminate()
            worker.join()
            pipe.close()


def _split(order: Order, processes: int) -> list[Order]:
    if order.due is not None:
        connections, count = max(1, order.connections // processes), min(processes, len(order.due))
        parts = (part_of(order.due, index, processes) for index in range(count))
        return [replace(order, due=part, connections=connections) for part in parts]
    count = min(processes, order.callers)
    callers = [order.callers // count + (index < order.callers % count) for index in range(count)]
    return [replace(order, callers=number, connections=number) for number in callers]


def _run(pipes: Sequence[Pipe], url: str) -> Sent:
    for pipe in pipes:
        reply = _receive(pipe)
        if reply != "ready":
            raise ServerUnavailable(f"no server answers at {url}: {reply}")
    started = time.monotonic() + _LEAD_S
    for pipe in pipes:
        pipe.send(started)
    # In the order in which they end, so that a process that died is noticed at once.
    outcomes: dict[Any, Sent] = {}
    while waiting := [pipe for pipe in pipes if pipe not in outcomes]:
        outcomes |= {pipe: _receive(pipe) for pipe in wait(waiting)}
    parts = [outcomes[pipe] for pipe in pipes]
    records, cpu_s = merge([part.records for part in parts]), sum(part.cpu_s for part in parts)
    return Sent(records, started, cpu_s, max(part.busiest for part in parts), len(parts))


def _receive(pipe: Any) -> Any:
    try:
        return pipe.recv()
    except EOFError as error:
        raise GeneratorError("a sending process died; its traceback is above") from error
