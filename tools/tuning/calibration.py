"""Half a minute of measurement from which the twin is fitted: for each deployment a few closed loops and open ones."""

from typing import Any

from loadtest.load import scheduled
from tools.tuning.candidates import Candidate, Deployment
from tools.tuning.served import Served
from tools.tuning.trials import Yardstick, close, run

Document = dict[str, Any]
CALLERS = (1, 8, 64)
# Of the closed loops' throughput: callers who wait for each other's answers make better batches than those who come
# when they like, so an open loop is full long before.
SHARES = (0.3, 0.55)
SECONDS = 1.5
# A closed loop lasts until each caller has been answered so often.
ANSWERS = 5
# More callers than so many times the objective are of no interest: none of them would be answered in time.
PATIENCE = 4.0


def calibrate(served: Served, how: Yardstick, base: Candidate, deployment: Deployment, limit_ms: float) -> Document:
    """Measure a deployment with the largest batches and no delay.

    Returns:
        The choice that was served, and the documents of its runs.
    """
    choice = Candidate(deployment, base.max_batch_size, 0)
    served.take_on(choice)
    runs = [close(served, how, 1, SECONDS)]
    alone_s = runs[0]["p50_ms"] / 1000
    for callers in CALLERS[1:]:
        if callers * alone_s < PATIENCE * limit_ms / 1000:
            runs.append(close(served, how, callers, max(SECONDS, ANSWERS * callers * alone_s)))
    most = max(one["server_rps"] for one in runs)
    for number, share in enumerate(SHARES):
        trial = run(served, how, scheduled("poisson", share * most, open_seconds(share * most), how.seed + number))
        # One that the server did not keep up with says more about its length.
        if trial["valid"] and trial["steady"] and trial["p50_ms"] is not None:
            runs.append(trial)
    return {"choice": choice.document(), "runs": runs}


def open_seconds(rate: float) -> float:
    """How long an open loop lasts: a hundred requests or more."""
    return max(SECONDS, 100 / rate)
