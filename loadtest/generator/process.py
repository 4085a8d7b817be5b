"""One sending process: connect, wait for the common start, send, hand over what was noted and what it cost."""

import asyncio
import gc
import time
from collections.abc import Callable
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
from loadtest.generator.priority import go_first
from loadtest.generator.tally import Tally
from loadtest.records import Records

# Connected before the start; further ones as they are needed.
WARM_LANES = 8


@dataclass(frozen=True)
class Order:
    """What one process is to do.

    Attributes:
        target: where to and what.
        due: [requests] seconds from the start (open loop), or None for a closed loop.
        callers: of a closed loop.
        duration: seconds for which a closed loop sends.
        connections: the most that may be open; with gRPC, the most calls under way.
        timeout: seconds after which a request is given up.
    """

    target: HttpTarget | GrpcTarget
    due: Times | None
    callers: int
    duration: float
    connections: int
    timeout: float


@dataclass(frozen=True)
class Outcome:
    """What one process did, the processor seconds that it took, and its share of a core in the busiest second."""

    records: Records
    cpu_s: float
    busiest: float


def work(order: Order, pipe: Pipe) -> None:
    """The process: says "ready" or what failed, takes the moment to start, gives back an Outcome."""
    go_first()  # Before there are threads, gRPC's.
    with asyncio.Runner(loop_factory=precise_loop) as runner:
        runner.run(send(order, pipe))


async def send(order: Order, pipe: Pipe) -> None:
    """Connect, wait for the parent's word, send."""
    tally = Tally(0.0)
    try:
        pool = Pool(lane_maker(order.target), order.connections, tally, order.timeout)
        await pool.open(order.callers or WARM_LANES)
    except OSError as error:
        pipe.send(error.strerror or str(error))
        return
    pipe.send("ready")
    tally.start = await asyncio.to_thread(pipe.recv)
    pipe.send(await carry_out(order, pool, tally))
    await pool.close()


async def carry_out(order: Order, pool: Pool, tally: Tally) -> Outcome:
    """Send all of it; `tally.start` is the moment to begin."""
    if order.due is not None:
        pacing: OpenLoop | ClosedLoop = OpenLoop(pool, (order.due + tally.start).tolist())
    else:
        pacing = ClosedLoop(pool, order.callers, tally.start, tally.start + order.duration)
    # A collection of garbage stops all sending for as long as it takes: what a test leaves behind fits into memory.
    gc.collect()
    gc.freeze()
    gc.disable()
    await asyncio.sleep(max(0.0, tally.start - time.monotonic()))
    meter = Meter()
    await pacing.run()
    meter.stop()
    return Outcome(tally.records(), meter.cpu_s, meter.busiest)


def lane_maker(target: HttpTarget | GrpcTarget) -> Callable[[Finished], Lane]:
    """What makes lanes to a target, within the running event loop."""
    if isinstance(target, HttpTarget):
        from clients.wire import ssl_context

        tls = ssl_context(target.connection) if target.connection.tls else None
        return lambda finished: HttpLane(target, tls, finished)
    channels = [open_channel(target.connection) for _ in range(CHANNELS)]
    made = iter(range(2**62))
    return lambda finished: GrpcLane(target, channels[next(made) % CHANNELS], finished)
