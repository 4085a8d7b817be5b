"""A digital twin of a served model: its dynamic batcher, its instances, and the processors that they share.

There are few kinds of events and the rules are Triton's own, so the twin is one loop, compiled by numba. A library for
discrete-event simulation is too slow: SimPy 4.1 simulates 0.43 million requests per second of a batcher alone, without
shared processors, which takes more than a minute for what takes five seconds here.

The model of the host: a request costs work around the batcher (reading, copying, answering, and in the load generator
where it shares the processors); a batch of size b costs `start + each * b`; simultaneous jobs share the processors
evenly once there are more jobs than processors; and now and then the host stalls.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tools.tune.candidates import Candidate
from tools.tune.event_loop import NEVER, loop

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Host:
    """The parameters of a deployment; all times in seconds."""

    cores: float  # processors that server and generator share; infinite where they do not limit
    sender: float  # work of the load generator per request, serial: half on the way out, half on the way back
    front: float  # work of the server around the batcher per request, likewise
    turn: float  # additional work of the server when it was idle before
    start: float  # a batch of size b takes start + each * b until its responses are sent, on an idle processor
    each: float
    rest: float  # what the instance needs after that before it takes the next batch
    wake: float  # from the decision to execute to the execution; requests that arrive meanwhile join the batch
    spread: float  # standard deviation of the logarithm of a batch's time
    way: float  # the part of each latency that is neither work nor queueing
    stalls: float  # of the host per second
    stall: float  # mean length of a stall


@dataclass(frozen=True)
class Simulated:
    """The outcome of a simulated run."""

    latency: Array  # [requests] in seconds, in the order of arrival
    mean_batch: float  # inferences per execution
    seconds: float  # from the first arrival to the last response
    work: float  # processor seconds


def open_loop(host: Host, candidate: Candidate, rate: float, unit: Array) -> Simulated:
    """Simulate `rate` arrivals per second that do not depend on the server.

    `unit` holds [requests] arrival times at one request per second, ascending.
    """
    return _simulate(host, candidate, unit / rate, 0)


def closed_loop(host: Host, candidate: Candidate, callers: int, requests: int) -> Simulated:
    """Simulate callers who each wait for the response before they send the next request."""
    return _simulate(host, candidate, np.zeros(requests), callers)


def _simulate(host: Host, candidate: Candidate, arrivals: Array, callers: int) -> Simulated:
    random, deployment = np.random.default_rng(0), candidate.deployment
    factors = np.exp(host.spread * random.standard_normal(len(arrivals)) - host.spread**2 / 2)
    gaps = random.exponential(size=4096)
    lengths = random.exponential(host.stall, size=4096) if host.stall else np.zeros(4096)
    away = np.cumsum(gaps) / host.stalls if host.stalls > 0 else np.full(4096, NEVER)
    preferred = np.array(candidate.preferred or (candidate.max_batch_size,), np.int64)
    times = (host.cores, host.sender, host.front, host.turn, host.start, host.each, host.rest, host.wake, host.way)
    batching = (candidate.max_batch_size, candidate.delay_us / 1e6, deployment.instances, max(1, deployment.threads))
    latency, batches, seconds, work = loop(arrivals, callers, times, batching, preferred, factors, away, lengths)
    return Simulated(latency, len(arrivals) / max(1, batches), seconds, work)
