"""Half a minute of measurement from which the twin is fitted: for each deployment a few closed loops and open ones."""

from typing import Any

from loadtest.load import open_loop
from tools.tune.candidates import Candidate, Deployment, plain
from tools.tune.served import Served
from tools.tune.trials import Yardstick, close, held, run, take_on

Document = dict[str, Any]
CALLERS = 64
# Of the closed loops' throughput: callers who wait for each other's answers make better batches than those who come
# when they like, so an open loop is full long before. The next one goes up from there, or down, to be near the limit.
SHARE, UP, DOWN = 0.5, 1.4, 0.65
OPEN_RUNS = 3
SECONDS = 1.5  # of a run, or less where trials are shorter
# A closed loop lasts until each caller has been answered so often.
ANSWERS = 3
# More callers than so many times the objective are of no interest: none of them would be answered in time.
PATIENCE = 2.0


def calibrate(served: Served, how: Yardstick, base: Candidate, deployment: Deployment, limit_ms: float) -> Document:
    """Measure a deployment with the largest batches and no delay.

    Returns:
        The choice that was served, and the documents of its runs.
    """
    choice = plain(base, deployment)
    take_on(served, how, choice)
    seconds = min(SECONDS, how.seconds)
    runs = [close(served, how, 1, seconds)]
    alone_s = runs[0]["p50_ms"] / 1000
    callers = min(CALLERS, int(PATIENCE * limit_ms / 1000 / alone_s))
    if callers > 1:
        runs.append(close(served, how, callers, max(seconds, ANSWERS * callers * alone_s)))
    rate = SHARE * max(one["server_rps"] for one in runs)
    for number in range(OPEN_RUNS):
        runs.append(open_run(served, how, rate, number))
        near = any(held(one) for one in runs[-number - 1 :])
        if number and near:
            break
        rate *= UP if near else DOWN
    return {"choice": choice.document(), "runs": runs}


def open_run(served: Served, how: Yardstick, rate: float, number: int) -> Document:
    """An open loop of eighty requests or more."""
    return run(served, how, open_loop("poisson", rate, max(min(SECONDS, how.seconds), 80 / rate), how.seed + number))
