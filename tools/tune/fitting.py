"""From what was measured to what the twin knows: the host whose runs look most like the measured ones.

Counters of the server would give a batch's time as it was while everything else ran too; on a host whose processors are
shared that is not what the batch costs. So the twin makes the very runs that were measured, and its numbers are changed
until throughput, latencies and batch sizes agree (simulation-based calibration; least squares of logarithms).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tools.tune.candidates import Candidate
from tools.tune.twin import Array, Host, closed_loop, open_loop

Document = dict[str, Any]
# Of a simulated run: an open loop is as long as a measured one, for how often the host is away shows over time alone.
REQUESTS, MOST, SECONDS = 3000, 20_000, 1.5
# Beginnings of the search, as shares of the latency of a single caller: front, turn, start, each, rest, wake.
BEGINNINGS = ((0.15, 0.1, 0.3, 0.05, 0.05, 0.2), (0.1, 0.1, 0.1, 0.6, 0.02, 0.02), (0.1, 0.2, 0.2, 0.02, 0.2, 0.2))
FLOOR_S = 1e-7
STALL_S = 0.005  # with which the search begins, once a second
AWAY = 0.2  # the largest share of time for which the host may be away
# How much each figure counts. An open loop's rate is given; its tail is what the tuner goes by.
CLOSED = {"rps": 1.0, "p50": 0.5, "p90": 0.3, "p99": 0.15, "mean_batch": 0.2}
OPEN = {"p50": 0.7, "p90": 0.7, "p99": 0.7, "mean_batch": 0.3}
OVER = 1.0


@dataclass(frozen=True)
class Observation:
    """One run, measured or simulated; latencies in seconds, NaN where they are not known.

    Attributes:
        callers: of a closed loop; 0 for an open one.
        rate: of an open loop's arrivals; 0 for a closed one.
        rps: answered requests per second.
        over: the latency that the server was beyond when it did not keep up, and all that is known then; else 0.
        sender: processor seconds per request that the load generator took: more where each has its own moment.
    """

    callers: int
    rate: float
    rps: float
    p50: float
    p90: float
    p99: float
    mean_batch: float
    sender: float
    over: float = 0.0


@dataclass(frozen=True)
class Fit:
    """What was found, and by how much the twin's throughput and median differ from the measured (medians, shares)."""

    host: Host
    rps_error: float
    p50_error: float


def observation(document: Document, limit_s: float) -> Observation:
    """A measured run, of a goal's limit."""
    # A percentile that a run has too few requests for is not known.
    p50, p90, p99 = ((document[f"{name}_ms"] or np.nan) / 1000 for name in ("p50", "p90", "p99"))
    batch = document["server"]["mean_batch"] or 1.0
    sender = (document["sender_us"] or 0.0) / 1e6
    if document["concurrency"]:
        return Observation(document["concurrency"], 0.0, document["server_rps"], p50, p90, p99, batch, sender)
    over = 0.0 if document["steady"] else limit_s
    return Observation(0, document["rate"], document["rps"], p50, p90, p99, batch, sender, over)


def simulate(host: Host, choice: Candidate, like: Observation, unit: Array) -> Observation:
    """The same run in the twin, of a host that is fitted without the generator.

    Args:
        host: of the deployment.
        choice: batching.
        like: the run.
        unit: [requests] arrivals at one per second.
    """
    host = replace(host, sender=like.sender)
    if like.callers:
        run = closed_loop(host, choice, like.callers, REQUESTS)
    else:
        run = open_loop(host, choice, like.rate, unit[: int(np.clip(SECONDS * like.rate, REQUESTS, MOST))])
    requests = len(run.latency)
    p50, p90, p99 = np.percentile(run.latency[requests // 10 :], [50, 90, 99])
    rps = requests / run.seconds
    return Observation(like.callers, like.rate, rps, float(p50), float(p90), float(p99), run.mean_batch, like.sender)


def fit(measured: Sequence[Observation], choice: Candidate, cores: float) -> Fit:
    """The host of a deployment.

    Args:
        measured: closed loops of different numbers of callers, one caller among them, and open loops: stalls stop the
            callers of a closed loop too, so that only an open one shows what they cost.
        choice: with which they were measured.
        cores: that server and generator share.
    """
    from scipy.optimize import OptimizeResult, least_squares

    unit = np.cumsum(np.random.default_rng(0).exponential(size=MOST))
    single = next(one for one in measured if one.callers == 1)

    def differences(x: Array, unit: Array) -> Array:
        host = host_of(x, cores)
        return np.concatenate([difference(simulate(host, choice, one, unit), one) for one in measured])

    def search(x: Array, unit: Array, evaluations: int) -> OptimizeResult:
        return least_squares(differences, x, diff_step=0.02, loss="soft_l1", max_nfev=evaluations, args=(unit,))

    # From each beginning with short runs, then from the best of these with long ones.
    tries = [search(beginning(single.p50, shares), unit[:REQUESTS], 20) for shares in BEGINNINGS]
    best = search(min(tries, key=lambda one: float(one.cost)).x, unit, 10)
    host = host_of(best.x, cores)
    pairs = [(simulate(host, choice, one, unit), one) for one in measured if not one.over]
    # Predictions are of open loops, of which the fastest is nearest to what is predicted.
    opens = [one for one in measured if not one.callers]
    fastest = max(opens, key=lambda one: (not one.over, one.rate), default=single)
    return Fit(replace(host, sender=fastest.sender), error(pairs, "rps"), error(pairs, "p50"))


def beginning(latency: float, shares: Sequence[float]) -> Array:
    """Where a search begins: logarithms of a host's numbers in their order."""
    times = [max(FLOOR_S, share * latency) for share in (*shares, 0.15)]
    return np.asarray(np.log([*times, 0.15, 1.0, STALL_S]), np.float64)


def host_of(x: Array, cores: float) -> Host:
    """The host that a point of the search stands for."""
    front, turn, start, each, rest, wake, way, spread, stalls, stall = np.exp(np.clip(x, -25, 5))
    often = min(stalls, 100.0)
    # A host that is away for most of the time would never be done.
    length = min(stall, 0.05, AWAY / often)
    return Host(cores, 0.0, front, turn, start, each, rest, wake, min(spread, 1.0), way, often, length)


def difference(simulated: Observation, measured: Observation) -> Array:
    """Weighted logarithms of the ratios of two loops; nothing for a figure that was not measured."""
    if measured.over:
        # How long the queue had become says more about the run's length.
        return np.array([OVER * max(0.0, np.log(measured.over / simulated.p99))])
    weights = CLOSED if measured.callers else OPEN
    return np.nan_to_num(
        [weight * np.log(getattr(simulated, name) / getattr(measured, name)) for name, weight in weights.items()]
    )


def error(pairs: Sequence[tuple[Observation, Observation]], name: str) -> float:
    """The median relative difference of one figure."""
    return float(np.median([abs(getattr(one, name) / getattr(other, name) - 1) for one, other in pairs]))
