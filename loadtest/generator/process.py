"""The sending processes: a part of the schedule for each, a common start, merged records and their cost."""

import asyncio
import errno
import gc
import itertools
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import Any

from clients.errors import ServerUnavailable, ToolError
from clients.lifetime import end_with
from loadtest.generator.clock import Meter, precise_loop
from loadtest.generator.grpc_lane import CHANNELS, GrpcLane, open_channel
from loadtest.generator.http_lane import HttpLane
from loadtest.generator.lane import Finished, Lane, Target
from loadtest.generator.pacing import ClosedLoop, OpenLoop
from loadtest.generator.pool import Pool, Tally
from loadtest.generator.stream_lanes import GrpcStreamLane, Notes, SseLane
from loadtest.load import Load, part_of
from loadtest.records import Records, merge

_DEATH = "a sending process died; its traceback is above"


class GeneratorError(ToolError):
    """A sending process died."""


@dataclass(frozen=True)
class Order:
    """The task of one process."""

    target: Target
    load: Load
    connections: int  # the most open connections; with gRPC, the most calls under way
    timeout: float  # seconds after its due time when a request is given up


@dataclass(frozen=True)
class Sent:
    """What one or several processes sent."""

    records: Records
    started: float  # on CLOCK_MONOTONIC, in seconds
    cpu_s: float  # of all processes
    busiest: float  # share of one core that the busiest process used in its busiest second
    processes: int


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
        parts = _split(order, processes)
        for _ in parts:
            ours, theirs = context.Pipe()
            worker = context.Process(target=_work, args=(theirs, os.getpid()), daemon=True)
            with _interrupts_held():
                worker.start()
            theirs.close()
            workers.append((worker, ours))
        for (_, pipe), part in zip(workers, parts, strict=True):
            _give(pipe, part)
        return _run([pipe for _, pipe in workers], order.target.connection.url)
    finally:
        for worker, pipe in workers:
            worker.terminate()
            worker.join()
            pipe.close()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold back Ctrl-C and a hang-up, which reach all processes of a terminal.

    Neither interrupts the start of a process, which inherits that it never gets them: its parent ends it.
    """
    resource_tracker.ensure_running()  # Starting it, which the first process would do, lets both signals through again.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _split(order: Order, processes: int) -> list[Order]:
    load = order.load
    if load.due is not None:
        connections, count = max(1, order.connections // processes), min(processes, len(load.due))
        loads = (replace(load, due=part_of(load.due, index, processes)) for index in range(count))
        parts = [replace(order, load=part, connections=connections) for part in loads]
    else:
        count = min(processes, load.callers)
        callers = (load.callers // count + (index < load.callers % count) for index in range(count))
        parts = [replace(order, load=replace(load, callers=number), connections=number) for number in callers]
    # Requests of its own for each process: a server may remember what it has seen.
    requests = order.target.requests
    own = [requests[index::count] or requests for index in range(count)]
    return [replace(part, target=replace(part.target, requests=some)) for part, some in zip(parts, own, strict=True)]


def _run(pipes: Sequence[Pipe], url: str) -> Sent:
    for pipe in pipes:
        reply = _receive(pipe)
        if reply != "ready":
            more = "; raise the limit (ulimit -n), or lower --connections" if os.strerror(errno.EMFILE) in reply else ""
            raise ServerUnavailable(f"no server answers at {url}: {reply}{more}")
    started = time.monotonic() + 0.2  # By then every process has received it.
    for pipe in pipes:
        _give(pipe, started)
    # In the order in which they end, so that a process that died is noticed at once.
    outcomes: dict[Any, Sent] = {}
    while waiting := [pipe for pipe in pipes if pipe not in outcomes]:
        outcomes |= {pipe: _receive(pipe) for pipe in wait(waiting)}
    parts = [outcomes[pipe] for pipe in pipes]
    records, cpu_s = merge([part.records for part in parts]), sum(part.cpu_s for part in parts)
    return Sent(records, started, cpu_s, max(part.busiest for part in parts), len(parts))


def _give(pipe: Pipe, what: Order | float) -> None:
    try:
        pipe.send(what)
    except OSError as error:
        raise GeneratorError(_DEATH) from error


def _receive(pipe: Any) -> Any:
    try:
        return pipe.recv()
    except EOFError as error:
        raise GeneratorError(_DEATH) from error


def _work(pipe: Pipe, parent: int) -> None:
    """Run in a process: receive an order, send "ready" or an error, receive the time to start, send what was Sent."""
    end_with(parent)
    try:
        order = pipe.recv()
    except EOFError:  # The parent was interrupted.
        return
    # A sender that wakes late measures the host's scheduler. It needs little of the processor, but at once: on two busy
    # cores it is late by 4 ms at p99 as an ordinary process, even with niceness -10, and by 0.2 ms with SCHED_RR.
    # Set before gRPC starts threads, which inherit it; only where this user may.
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    with asyncio.Runner(loop_factory=precise_loop) as runner:
        runner.run(_send(order, pipe))


async def _send(order: Order, pipe: Pipe) -> None:
    tally, notes, load = Tally(0.0), Notes(), order.load
    try:
        pool = Pool(lane_maker(order.target, notes), order.connections, tally, order.timeout)
        await pool.open(load.callers or 8)  # A schedule opens more as needed.
    except OSError as error:
        pipe.send(error.strerror or str(error))
        return
    pipe.send("ready")
    start = tally.start = await asyncio.to_thread(pipe.recv)
    if load.due is not None:
        pacing: OpenLoop | ClosedLoop = OpenLoop(pool, (load.due + start).tolist())
    else:
        pacing = ClosedLoop(pool, load.callers, start, start + load.duration)
    # Garbage collection would pause sending; what a test leaves behind fits into memory.
    gc.collect()
    gc.freeze()
    gc.disable()
    await asyncio.sleep(max(0.0, start - time.monotonic()))
    meter = Meter()
    await pacing.run()
    meter.stop()
    pipe.send(Sent(tally.records(notes if order.target.stream else None), start, meter.cpu_s, meter.busiest, 1))
    await pool.close()


def lane_maker(target: Target, notes: Notes | None = None) -> Callable[[Finished], Lane]:
    """Make the function that makes lanes to a target, within the running event loop.

    Those of a language model note what its streams brought.
    """
    noted = {} if notes is None else notes
    if target.connection.protocol == "http":
        from clients.wire import ssl_context

        tls = ssl_context(target.connection) if target.connection.tls else None
        if target.stream:
            return lambda finished: SseLane(target, tls, finished, noted)
        return lambda finished: HttpLane(target, tls, finished)
    channels = itertools.cycle([open_channel(target.connection) for _ in range(CHANNELS)])
    if target.stream:
        return lambda finished: GrpcStreamLane(target, next(channels), finished, noted)
    return lambda finished: GrpcLane(target, next(channels), finished)
