"""One sending process: connect, wait for the common start, send, return the records and their cost."""

import asyncio
import gc
import itertools
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe

from loadtest.generator.clock import Meter, precise_loop
from loadtest.generator.grpc_lane import CHANNELS, GrpcLane, open_channel
from loadtest.generator.http_lane import HttpLane
from loadtest.generator.lane import Finished, Lane, Target
from loadtest.generator.pacing import ClosedLoop, OpenLoop
from loadtest.generator.pool import Pool, Tally
from loadtest.load import Times
from loadtest.records import Records

# Connected before the start; more are opened as needed.
_WARM_LANES = 8


@dataclass(frozen=True)
class Order:
    """The task of one process."""

    target: Target
    due: Times | None  # [requests] seconds from the start; None for a closed loop
    callers: int  # of a closed loop
    duration: float  # seconds for which a closed loop sends
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


def work(order: Order, pipe: Pipe) -> None:
    """Run in the process: send "ready" or an error, receive the time to start, send what was Sent."""
    # Ctrl-C reaches all processes of a terminal; the parent ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A sender that wakes late measures the host's scheduler. It needs little of the processor, but at once: on two busy
    # cores it is late by 4 ms at p99 as an ordinary process, even with niceness -10, and by 0.2 ms with SCHED_RR.
    # Set before gRPC starts threads, which inherit it; only where this user may.
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    with asyncio.Runner(loop_factory=precise_loop) as runner:
        runner.run(_send(order, pipe))


async def _send(order: Order, pipe: Pipe) -> None:
    tally = Tally(0.0)
    try:
        pool = Pool(lane_maker(order.target), order.connections, tally, order.timeout)
        await pool.open(order.callers or _WARM_LANES)
    except OSError as error:
        pipe.send(error.strerror or str(error))
        return
    pipe.send("ready")
    start = tally.start = await asyncio.to_thread(pipe.recv)
    if order.due is not None:
        pacing: OpenLoop | ClosedLoop = OpenLoop(pool, (order.due + start).tolist())
    else:
        pacing = ClosedLoop(pool, order.callers, start, start + order.duration)
    # Garbage collection would pause sending; what a test leaves behind fits into memory.
    gc.collect()
    gc.freeze()
    gc.disable()
    await asyncio.sleep(max(0.0, start - time.monotonic()))
    meter = Meter()
    await pacing.run()
    meter.stop()
    pipe.send(Sent(tally.records(), start, meter.cpu_s, meter.busiest, 1))
    await pool.close()


def lane_maker(target: Target) -> Callable[[Finished], Lane]:
    """Make the function that makes lanes to a target, within the running event loop."""
    if target.connection.protocol == "http":
        from clients.wire import ssl_context

        tls = ssl_context(target.connection) if target.connection.tls else None
        return lambda finished: HttpLane(target, tls, finished)
    channels = itertools.cycle([open_channel(target.connection) for _ in range(CHANNELS)])
    return lambda finished: GrpcLane(target, next(channels), finished)
