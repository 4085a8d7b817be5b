"""One sending process: connect, wait for the common start, send, return the records and their cost."""

import asyncio
import gc
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe

from loadtest.arrivals import Times
from loadtest.generator.clock import precise_loop
from loadtest.generator.grpc_lane import CHANNELS, GrpcLane, GrpcTarget, open_channel
from loadtest.generator.http_lane import HttpLane, HttpTarget
from loadtest.generator.lane import Finished, Lane
from loadtest.generator.meter import Meter
from loadtest.generator.pacing import ClosedLoop, OpenLoop
from loadtest.generator.pool import Pool
from loadtest.generator.tally import Tally
from loadtest.records import Records

# Connected before the start; more are opened as needed.
_WARM_LANES = 8


@dataclass(frozen=True)
class Order:
    """The task of one process.

    Attributes:
        target: requests, and where to send them.
        due: [requests] seconds from the start (open loop), or None for a closed loop.
        callers: of a closed loop.
        duration: seconds for which a closed loop sends.
        connections: the most open connections; with gRPC, the most calls under way.
        timeout: seconds after its due time when a request is given up.
    """

    target: HttpTarget | GrpcTarget
    due: Times | None
    callers: int
    duration: float
    connections: int
    timeout: float


@dataclass(frozen=True)
class Outcome:
    """Records of one process, the CPU seconds it used, and its share of a core in the busiest second."""

    records: Records
    cpu_s: float
    busiest: float


def work(order: Order, pipe: Pipe) -> None:
    """Run in the process: send "ready" or an error, receive the time to start, send an Outcome."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches all processes of a terminal; the parent ends this one.
    _raise_priority()  # Before gRPC starts threads, which inherit it.
    with asyncio.Runner(loop_factory=precise_loop) as runner:
        runner.run(_send(order, pipe))


def _raise_priority() -> None:
    """Take this process out of turn (SCHED_RR), where the user may.

    A sender that wakes late measures the host's scheduler. It needs little of the processor, but at once: on two busy
    cores it is late by 4 ms at p99 as an ordinary process, even with niceness -10, and by 0.2 ms with SCHED_RR.
    """
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


async def _send(order: Order, pipe: Pipe) -> None:
    tally = Tally(0.0)
    try:
        pool = Pool(lane_maker(order.target), order.connections, tally, order.timeout)
        await pool.open(order.callers or _WARM_LANES)
    except OSError as error:
        pipe.send(error.strerror or str(error))
        return
    pipe.send("ready")
    tally.start = await asyncio.to_thread(pipe.recv)
    pipe.send(await _carry_out(order, pool, tally))
    await pool.close()


async def _carry_out(order: Order, pool: Pool, tally: Tally) -> Outcome:
    if order.due is not None:
        pacing: OpenLoop | ClosedLoop = OpenLoop(pool, (order.due + tally.start).tolist())
    else:
        pacing = ClosedLoop(pool, order.callers, tally.start, tally.start + order.duration)
    # Garbage collection would pause sending; what a test leaves behind fits into memory.
    gc.collect()
    gc.freeze()
    gc.disable()
    await asyncio.sleep(max(0.0, tally.start - time.monotonic()))
    meter = Meter()
    await pacing.run()
    meter.stop()
    return Outcome(tally.records(), meter.cpu_s, meter.busiest)


def lane_maker(target: HttpTarget | GrpcTarget) -> Callable[[Finished], Lane]:
    """Make the function that makes lanes to a target, within the running event loop."""
    if isinstance(target, HttpTarget):
        from clients.wire import ssl_context

        tls = ssl_context(target.connection) if target.connection.tls else None
        return lambda finished: HttpLane(target, tls, finished)
    channels = [open_channel(target.connection) for _ in range(CHANNELS)]
    made = iter(range(2**62))
    return lambda finished: GrpcLane(target, channels[next(made) % CHANNELS], finished)
