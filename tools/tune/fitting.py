"""Fit the twin's parameters to measured runs.

The server's counters give the wall-clock time of a batch, which on shared processors is not what the batch costs. So
the twin simulates the measured runs, and its parameters are adjusted until throughput, latencies and batch sizes agree
(simulation-based calibration; least squares of logarithms).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tools.tune.candidates import Candidate
from tools.tune.trials import Trial
from tools.tune.twin import Array, Host, closed_loop, open_loop

# A simulated open loop is as long as a measured one, because stalls show only over time.
_REQUESTS, _MAX_REQUESTS, _SECONDS = 3000, 20_000, 1.5
# Starting points of the search, as shares of a single caller's latency: front, turn, start, each, rest, wake, way.
_POINTS = (
    (0.15, 0.1, 0.3, 0.05, 0.05, 0.2, 0.15),
    (0.1, 0.1, 0.1, 0.6, 0.02, 0.02, 0.15),
    (0.1, 0.2, 0.2, 0.02, 0.2, 0.2, 0.15),
)
_MIN_TIME_S = 1e-7
_SPREAD, _STALLS, _STALL_S = 0.15, 1.0, 0.005  # at all starting points
_MAX_STALL_SHARE = 0.2  # of the time
# Weights of the figures. The rate of an open loop is given; its tail is what the tuner relies on.
_CLOSED = {"rps": 1.0, "p50": 0.5, "p90": 0.3, "p99": 0.15, "mean_batch": 0.2}
_OPEN = {"p50": 0.7, "p90": 0.7, "p99": 0.7, "mean_batch": 0.3}


@dataclass(frozen=True)
class Observation:
    """One run, measured or simulated; latencies in seconds, NaN where they are not known."""

    callers: int  # of a closed loop; 0 for an open one
    rate: float  # of an open loop's arrivals; 0 for a closed one
    rps: float  # answered requests per second
    p50: float
    p90: float
    p99: float
    mean_batch: float
    sender: float  # processor seconds per request of the load generator: more for scheduled arrivals
    over: float = 0.0  # a lower bound of the latency, and all that is known, where the server did not keep up


@dataclass(frozen=True)
class Fit:
    """A fitted host, and the median relative errors of the twin's throughput and median latency."""

    host: Host
    rps_error: float
    p50_error: float


def observe(trial: Trial, limit_s: float) -> Observation:
    """Read a measured run; `limit_s` bounds the latency where the server did not keep up."""
    # Of too few requests, a percentile is unknown.
    p50, p90, p99 = ((trial.latency_ms[name] or np.nan) / 1000 for name in ("p50", "p90", "p99"))
    batch, sender = trial.server.mean_batch or 1.0, (trial.sender_us or 0.0) / 1e6
    if trial.concurrency:
        return Observation(trial.concurrency, 0.0, trial.server_rps or 0.0, p50, p90, p99, batch, sender)
    over = 0.0 if trial.steady else limit_s
    return Observation(0, trial.rate or 0.0, trial.rps or 0.0, p50, p90, p99, batch, sender, over)


def simulate(host: Host, candidate: Candidate, like: Observation, unit: Array) -> Observation:
    """Simulate a run like another, which says what the generator cost.

    `unit` holds [requests] arrival times at one request per second, in seconds.
    """
    host = replace(host, sender=like.sender)
    if like.callers:
        run = closed_loop(host, candidate, like.callers, _REQUESTS)
    else:
        length = int(np.clip(_SECONDS * like.rate, _REQUESTS, _MAX_REQUESTS))
        run = open_loop(host, candidate, like.rate, unit[:length])
    requests = len(run.latency)
    p50, p90, p99 = map(float, np.percentile(run.latency[requests // 10 :], [50, 90, 99]))
    return Observation(like.callers, like.rate, requests / run.seconds, p50, p90, p99, run.mean_batch, like.sender)


def fit(measured: Sequence[Observation], candidate: Candidate, cores: float) -> Fit:
    """Fit the host of a deployment.

    Args:
        measured: closed loops, one of them with a single caller, and open loops: a stall stops the callers of a closed
            loop too, so that only an open loop shows what it costs.
        candidate: the settings with which they were measured.
        cores: that server and generator share.
    """
    from scipy.optimize import OptimizeResult, least_squares

    unit = np.cumsum(np.random.default_rng(0).exponential(size=_MAX_REQUESTS))
    single = next(run for run in measured if run.callers == 1)

    def differences(x: Array, unit: Array) -> Array:
        host = _host_at(x, cores)
        return np.concatenate([_residuals(simulate(host, candidate, run, unit), run) for run in measured])

    def search(x: Array, unit: Array, evaluations: int) -> OptimizeResult:
        return least_squares(differences, x, diff_step=0.02, loss="soft_l1", max_nfev=evaluations, args=(unit,))

    # With short runs from each starting point, then with long ones from the best result.
    times = [[max(_MIN_TIME_S, share * single.p50) for share in shares] for shares in _POINTS]
    results = [search(np.log([*own, _SPREAD, _STALLS, _STALL_S]), unit[:_REQUESTS], 20) for own in times]
    best = search(min(results, key=lambda result: float(result.cost)).x, unit, 10)
    host = _host_at(best.x, cores)
    pairs = [(simulate(host, candidate, run, unit), run) for run in measured if not run.over]
    rps_error = float(np.median([abs(simulated.rps / run.rps - 1) for simulated, run in pairs]))
    p50_error = float(np.median([abs(simulated.p50 / run.p50 - 1) for simulated, run in pairs]))
    # The twin predicts open loops near the limit, like the fastest of the measured ones.
    opened = [run for run in measured if not run.callers]
    fastest = max(opened, key=lambda run: (not run.over, run.rate), default=single)
    return Fit(replace(host, sender=fastest.sender), rps_error, p50_error)


def _host_at(x: Array, cores: float) -> Host:
    front, turn, start, each, rest, wake, way, spread, stalls, stall = np.exp(np.clip(x, -25, 5))
    often = min(stalls, 100.0)
    # A host that is stalled for most of the time would never finish.
    length = min(stall, 0.05, _MAX_STALL_SHARE / often)
    return Host(cores, 0.0, front, turn, start, each, rest, wake, min(spread, 1.0), way, often, length)


def _residuals(simulated: Observation, measured: Observation) -> Array:
    """Weighted logarithms of ratios; zero for a figure that was not measured."""
    if measured.over:
        # Beyond the limit, latency depends on how long the run was.
        return np.array([max(0.0, np.log(measured.over / simulated.p99))])
    weights = _CLOSED if measured.callers else _OPEN
    return np.nan_to_num(
        [weight * np.log(getattr(simulated, name) / getattr(measured, name)) for name, weight in weights.items()]
    )
