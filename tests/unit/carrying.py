"""Requests through the generator's lanes, in this process: what a test of connections needs, without a command."""

import asyncio

from loadtest.generator.lane import Target
from loadtest.generator.pacing import OpenLoop
from loadtest.generator.pool import Pool, Tally
from loadtest.generator.process import lane_maker
from loadtest.generator.stream_lanes import Notes
from loadtest.records import Records


def carry(target: Target, count: int, timeout: float = 5.0) -> Records:
    """Send so many requests, all due at once, over up to eight lanes."""

    async def send() -> Records:
        loop = asyncio.get_running_loop()
        tally, notes = Tally(loop.time()), Notes()
        pool = Pool(lane_maker(target, notes), 8, tally, timeout)
        await pool.open(2)
        await asyncio.wait_for(OpenLoop(pool, [loop.time()] * count).run(), 20)
        await pool.close()
        return tally.records(notes if target.stream else None)

    return asyncio.run(send())
