"""Which candidates are worth measuring: calibrate each deployment, fit a twin of it, let the twins rank all candidates.

Calibration is half a minute of closed and open loops for each deployment.
"""

import os
import time
from collections.abc import Mapping

from clients.command import say
from tools.tune.candidates import Candidate, Deployment, TuningError, calibration_candidate, deployments, search_space
from tools.tune.fitting import fit, observe
from tools.tune.goal import Goal
from tools.tune.prediction import Prediction, rank
from tools.tune.record import Calibration, Record
from tools.tune.serving import ServedModel
from tools.tune.twin import Host

_CALLERS = 64
# The first open loop's rate as a share of the closed loops' throughput, and how the next one's follows from it: near
# the limit, up or down. Callers who wait make better batches than open arrivals, which saturate a server much earlier.
_SHARE, _UP, _DOWN = 0.5, 1.4, 0.65
_OPEN_RUNS = 3
_RUN_S = 1.5  # or less where trials are shorter
_OPEN_REQUESTS = 80  # at least, in an open loop
_ANSWERS = 3  # for each caller, at least, in a closed loop
# With more callers than this many latency limits allow, none would be answered in time.
_PATIENCE = 2.0


def propose(
    model: ServedModel, goal: Goal, least_batch: int, record: Record, until: float
) -> tuple[list[Prediction], int]:
    """Rank the candidates that should meet the objectives, the best first; also returns how many were simulated.

    All candidates accept requests of `least_batch`. The record receives new calibrations, none of which should end
    after `until` of time.monotonic().
    """
    calibrate_all(model, goal, record, until)
    hosts = fit_hosts(record, goal.limit_ms)
    candidates = search_space(model.committed, list(hosts), goal.limit_ms, least_batch)
    began = time.monotonic()
    ranked = rank(hosts, candidates, goal)
    seconds = time.monotonic() - began
    say(f"{len(candidates):,} candidates simulated in {seconds:.1f} s; {len(ranked):,} should meet the objectives")
    return ranked, len(candidates)


def calibrate_all(model: ServedModel, goal: Goal, record: Record, until: float = float("inf")) -> None:
    """Measure the deployments that the record lacks while time allows; in any case the committed one."""
    among, longest = deployments(os.cpu_count() or 1, model.gpu), 0.0
    for deployment in dict.fromkeys([model.committed.deployment, *among]):
        known = [calibration.candidate.deployment for calibration in record.calibrations]
        if deployment in known:
            continue
        if known and time.monotonic() + longest > until:
            return
        began = time.monotonic()
        say(f"calibrating {model.name}, {deployment.instances} instance(s) of {deployment.threads} thread(s) …")
        record.calibrations.append(_calibrate(model, calibration_candidate(model.committed, deployment), goal.limit_ms))
        longest = time.monotonic() - began
        record.seconds += longest
        record.save()


def _calibrate(model: ServedModel, candidate: Candidate, limit_ms: float) -> Calibration:
    model.load(candidate)
    model.warm_up()
    seconds = min(_RUN_S, model.trial_s)
    single = model.closed_trial(1, seconds)
    alone_ms = single.latency_ms["p50"]
    if alone_ms is None:
        failed = f"{single.errors} of {single.requests} requests failed"
        raise TuningError(f"{model.name}: a single caller got too few answers in {seconds:g} s ({failed}); see --trial")
    closed, opened = [single], []
    callers = min(_CALLERS, int(_PATIENCE * limit_ms / alone_ms))
    if callers > 1:
        closed.append(model.closed_trial(callers, max(seconds, _ANSWERS * callers * alone_ms / 1000)))
    rate = _SHARE * max(run.server_rps or 0.0 for run in closed)
    for number in range(_OPEN_RUNS):
        opened.append(model.open_trial(rate, number, max(seconds, _OPEN_REQUESTS / rate)))
        sustained = any(run.is_sustained for run in opened)
        if number and sustained:
            break
        rate *= _UP if sustained else _DOWN
    return Calibration(candidate, (*closed, *opened))


def fit_hosts(record: Record, limit_ms: float) -> Mapping[Deployment, Host]:
    """Fit the twin of each calibrated deployment."""
    hosts = {}
    for calibration in record.calibrations:
        deployment = calibration.candidate.deployment
        runs = [observe(run, limit_ms / 1000) for run in calibration.runs if run.valid or run.concurrency]
        fitted = fit(runs, calibration.candidate, float(os.cpu_count() or 1))
        hosts[deployment] = fitted.host
        say(
            f"twin of {deployment.instances} x {deployment.threads}: throughput within {fitted.rps_error:.0%}, "
            f"median latency within {fitted.p50_error:.0%} of the measured"
        )
    return hosts
