"""A digital twin of a served model: its dynamic batcher, its instances, and the processors that they share.

Events are few and the rules are Triton's own, so the twin is one loop, compiled by numba. A library of discrete
events was measured beside it: SimPy 4.1 plays 0.43 million requests per second of a batcher alone, without shared
processors, a minute and more for what takes five seconds here.

What it knows of the host: a request costs work around the batcher (reading, copying, answering; the load generator too,
where it shares the processors), a batch of b costs `start + each * b`, jobs that run at the same time share the
processors evenly once they want more than there are, and now and then the host is away for a while.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tools.tune.candidates import Candidate
from tools.tune.event_loop import NEVER, loop

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Host:
    """What the twin knows of a deployment; all times in seconds.

    Attributes:
        cores: processors that server and generator share; infinite for a server elsewhere with many.
        sender: work of the load generator for one request, one after the other: half on the way out, half back.
        front: work of the server around the batcher for one request, likewise.
        turn: what it costs to begin with that after a rest; who is busy does not pay it.
        start, each: of a batch of b until its answers are out: start + each * b, on a processor of its own.
        rest: what the instance needs after that before it takes the next batch.
        wake: from the decision to execute to the execution; who comes meanwhile still joins the batch.
        spread: standard deviation of the logarithm of a batch's time.
        way: of each latency, what is neither work nor waiting for it.
        stalls: how many times per second the host is away.
        stall: for how long, on average.
    """

    cores: float
    sender: float
    front: float
    turn: float
    start: float
    each: float
    rest: float
    wake: float
    spread: float
    way: float
    stalls: float
    stall: float


@dataclass(frozen=True)
class Simulated:
    """What came of a simulated run.

    Attributes:
        latency: [requests] seconds, in the order of arrival.
        mean_batch: of all executions.
        seconds: from the first arrival to the last answer.
        work: processor seconds of all of it.
    """

    latency: Array
    mean_batch: float
    seconds: float
    work: float


def open_loop(host: Host, choice: Candidate, rate: float, unit: Array, seed: int = 0) -> Simulated:
    """Requests that come whatever the server does.

    Args:
        host: of the choice's deployment.
        choice: batching.
        rate: requests per second.
        unit: [requests] arrivals at a rate of one per second, rising.
        seed: of what chance decides.
    """
    return simulated(host, choice, unit / rate, 0, seed)


def closed_loop(host: Host, choice: Candidate, callers: int, requests: int, seed: int = 0) -> Simulated:
    """So many callers, each of whom waits for his answer."""
    return simulated(host, choice, np.zeros(requests), callers, seed)


def simulated(host: Host, choice: Candidate, arrivals: Array, callers: int, seed: int) -> Simulated:
    """Draw what is left to chance, run the loop."""
    random = np.random.default_rng(seed)
    factors = np.exp(host.spread * random.standard_normal(len(arrivals)) - host.spread**2 / 2)
    gaps = random.exponential(size=4096)
    lengths = random.exponential(host.stall, size=4096) if host.stall else np.zeros(4096)
    away = np.cumsum(gaps) / host.stalls if host.stalls > 0 else np.full(4096, NEVER)
    preferred = np.array(choice.preferred or (choice.max_batch_size,), np.int64)
    latency, batches, seconds, work = loop(
        arrivals,
        callers,
        (host.cores, host.sender, host.front, host.turn, host.start, host.each, host.rest, host.wake, host.way),
        (choice.max_batch_size, choice.delay_us / 1e6, choice.deployment.instances, max(1, choice.deployment.threads)),
        preferred,
        factors,
        away,
        lengths,
    )
    return Simulated(latency, len(arrivals) / max(1, batches), seconds, work)
