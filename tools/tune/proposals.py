"""Which choices of a model are worth measuring: calibrate its deployments, fit a twin of each, let these rank all."""

import argparse
import os
import time
from collections.abc import Callable, Sequence

from tools.tune.calibration import calibrate
from tools.tune.candidates import Candidate, Deployment, candidate_from, candidate_of, deployments, space
from tools.tune.fitting import fit, observation
from tools.tune.goal import Goal
from tools.tune.prediction import Prediction, rank
from tools.tune.record import Record
from tools.tune.served import Served
from tools.tune.trials import Yardstick
from tools.tune.twin import Host

Say = Callable[[str], None]


def proposals(
    one: Served, how: Yardstick, arguments: argparse.Namespace, goal: Goal, record: Record, until: float, say: Say
) -> tuple[list[Prediction], int]:
    """All choices that should keep to the objective, the best first; and how many were simulated.

    Args:
        one: the model.
        how: yardstick.
        arguments: `keep_max_batch_size` and `client_batch` bound what is considered.
        goal: what is wanted.
        record: holds the calibrations, and gets those that it lacks.
        until: moment of time.monotonic() at which no further calibration should end.
        say: told of each step.
    """
    base, cores = candidate_of(one.base), os.cpu_count() or 1
    calibrate_all(one, how, base, goal, record, deployments(cores, one.gpu), until, say)
    hosts = fitted(record, float(cores), goal.limit_ms, say)
    choices = space(base, list(hosts), goal.limit_ms, least_batch(base, arguments))
    start = time.monotonic()
    ranked = rank(hosts, choices, goal)
    seconds = time.monotonic() - start
    say(f"{len(choices):,} choices simulated in {seconds:.1f} s; {len(ranked):,} keep to the objective")
    return ranked, len(choices)


def least_batch(base: Candidate, arguments: argparse.Namespace) -> int:
    """The smallest max_batch_size that is considered."""
    return base.max_batch_size if arguments.keep_max_batch_size else min(arguments.client_batch, base.max_batch_size)


def calibrate_all(
    one: Served,
    how: Yardstick,
    base: Candidate,
    goal: Goal,
    record: Record,
    among: Sequence[Deployment],
    until: float,
    say: Say,
) -> None:
    """Measure the deployments that the record does not hold, as many as the time allows; always the present one."""
    lasted = 0.0
    for deployment in dict.fromkeys([base.deployment, *among]):
        known = [candidate_from(each["choice"]).deployment for each in record.calibrations]
        if deployment in known:
            continue
        if known and time.monotonic() + lasted > until:
            return
        began = time.monotonic()
        say(f"calibrating {one.model}, {deployment.instances} instance(s) of {deployment.threads} thread(s) …")
        record.calibrations.append(calibrate(one, how, base, deployment, goal.limit_ms))
        lasted = time.monotonic() - began
        record.seconds += lasted
        record.save()


def fitted(record: Record, cores: float, limit_ms: float, say: Say) -> dict[Deployment, Host]:
    """What the twin knows of each calibrated deployment."""
    hosts = {}
    for each in record.calibrations:
        choice = candidate_from(each["choice"])
        runs = [observation(run, limit_ms / 1000) for run in each["runs"] if run["valid"] or run["concurrency"]]
        found = fit(runs, choice, cores)
        hosts[choice.deployment] = found.host
        say(
            f"twin of {choice.deployment.instances} x {choice.deployment.threads}: throughput within "
            f"{found.rps_error:.0%}, median latency within {found.p50_error:.0%} of what was measured"
        )
    return hosts
