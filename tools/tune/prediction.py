"""What the twin says of choices: thousands of them in seconds, of which a few are then measured."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tools.tune.candidates import Candidate, Deployment, plain
from tools.tune.goal import Goal
from tools.tune.twin import Array, Host, Simulated, open_loop

FEWEST, MOST = 3000, 20_000  # requests of a simulated run
SECONDS = 2.0
HALVINGS = 7
CLOSER = 30  # choices for each deployment that are looked at more closely
SETTLED = 0.1  # of a run is its warm-up
# Predictions that differ by less than a step are equal. A deployment whose best is so many times worse than the best of
# all is a hopeless case; of one that is a little nearer only what it was calibrated with is measured.
STEP, HOPELESS, DOUBTFUL = 0.1, 2.0, 1.3
# A measured trial's server must keep up; so must the twin: the last third may not be slower than this times the middle.
DRIFT = 4 / 3


@dataclass(frozen=True)
class Prediction:
    """What the twin says of a choice.

    Attributes:
        figure: of the goal; None where the choice cannot keep to the objective.
        rate: at which it was simulated: the highest within the objective, or the goal's.
        latency_ms: the goal's percentile there.
        mean_batch: there.
        work_us: processor microseconds per request there.
    """

    candidate: Candidate
    figure: float | None
    rate: float
    latency_ms: float
    mean_batch: float
    work_us: float


def arrivals(seed: int = 1) -> Array:
    """Poisson arrivals at one per second, the same for all choices: then chance favours none of them."""
    return np.cumsum(np.random.default_rng(seed).exponential(size=MOST))


def run(host: Host, choice: Candidate, rate: float, unit: Array) -> Simulated:
    """A simulated trial."""
    return open_loop(host, choice, rate, unit[: int(np.clip(SECONDS * rate, FEWEST, MOST))])


def percentile_ms(simulated: Simulated, share: float) -> float:
    """A percentile without the warm-up."""
    return 1000 * float(np.quantile(simulated.latency[int(SETTLED * len(simulated.latency)) :], share))


def holds(simulated: Simulated, goal: Goal) -> bool:
    """Whether a simulated trial keeps to the limit, and the server up with the arrivals."""
    third = len(simulated.latency) // 3
    middle, last = simulated.latency[third : 2 * third], simulated.latency[-third:]
    drifts = np.median(last) > DRIFT * np.median(middle)
    return percentile_ms(simulated, goal.share) < goal.limit_ms and not drifts


def peak(host: Host, choice: Candidate, goal: Goal, unit: Array) -> float | None:
    """The highest rate that keeps to the goal's limit; None where none does."""
    low, high = 0.02 * ceiling(host, choice), ceiling(host, choice)
    if not holds(run(host, choice, low, unit), goal):
        return None
    for _ in range(HALVINGS):
        rate = float(np.sqrt(low * high))
        low, high = (rate, high) if holds(run(host, choice, rate, unit), goal) else (low, rate)
    return low


def ceiling(host: Host, choice: Candidate) -> float:
    """A rate that nothing can exceed: full batches, no waste."""
    size, deployment = choice.max_batch_size, choice.deployment
    batch = (host.start + host.rest + host.wake) / size + host.each
    threads = max(1, deployment.threads)
    return 1.05 * min(deployment.instances / batch, host.cores / (host.front + threads * batch))


def predict(host: Host, choice: Candidate, goal: Goal, unit: Array) -> Prediction:
    """What the twin says of one choice."""
    rate = goal.rate or peak(host, choice, goal, unit)
    if rate is None:
        return Prediction(choice, None, 0.0, float("inf"), 0.0, 0.0)
    simulated = run(host, choice, rate, unit)
    latency = percentile_ms(simulated, goal.share)
    work = 1e6 * simulated.work / len(simulated.latency)
    figures = {"throughput": rate, "latency": latency, "cost": work}
    figure = figures[goal.name] if goal.rate is None or holds(simulated, goal) else None
    return Prediction(choice, figure, rate, latency, simulated.mean_batch, work)


def rank(hosts: Mapping[Deployment, Host], choices: list[Candidate], goal: Goal) -> list[Prediction]:
    """All choices whose deployment is known, the best first; among equals the one that refuses fewest requests."""
    unit = arrivals()
    known = [one for one in choices if one.deployment in hosts]
    # A quick look at all; those that seem good are looked at for as long as a trial lasts.
    quick = ordered([predict(hosts[one.deployment], one, goal, unit[:FEWEST]) for one in known], goal)
    closer = [one.candidate for one in quick[: len(hosts) * CLOSER]]
    better = ordered([predict(hosts[one.deployment], one, goal, unit) for one in closer], goal)
    return better + quick[len(closer) :]


def ordered(found: list[Prediction], goal: Goal) -> list[Prediction]:
    """Those that keep to the objective, the best first."""
    return sorted((one for one in found if one.figure is not None), key=lambda one: order(one, goal))


def order(one: Prediction, goal: Goal) -> tuple[float, int, int, int]:
    """Sorts predictions: by the figure in steps, the twin not being exact; no preference, less delay, more room."""
    assert one.figure is not None
    step = round(np.log(max(one.figure, 1e-9)) / STEP)
    choice = one.candidate
    return (step if goal.less else -step, len(choice.preferred), choice.delay_us, -choice.max_batch_size)


def shortlist(ranked: list[Prediction], base: Candidate, most: int) -> list[Candidate]:
    """What is worth measuring.

    The present choice; of each deployment that is no hopeless case the choice that it was calibrated with, of which the
    twin is surest; of the better ones the best; then the best of the rest that differ in more than a trifle.
    """
    first: dict[Deployment, Prediction] = {}
    for one in ranked:
        first.setdefault(one.candidate.deployment, one)
    possible = [each for each in first if near(first[each], ranked[0], HOPELESS)]
    calibrated = [plain(base, each) for each in possible]
    chosen = [base, *(choice for choice in calibrated if any(each.candidate == choice for each in ranked))]
    chosen += [first[each].candidate for each in possible if near(first[each], ranked[0], DOUBTFUL)]
    for one in ranked:
        if not any(alike(one.candidate, other) for other in chosen):
            chosen.append(one.candidate)
    return list(dict.fromkeys(chosen))[:most]


def near(one: Prediction, best: Prediction, times: float) -> bool:
    """Whether a prediction is less than so many times worse than the best one."""
    assert one.figure is not None and best.figure is not None
    return max(one.figure, best.figure) < times * min(one.figure, best.figure)


def alike(one: Candidate, other: Candidate) -> bool:
    """Whether two choices differ so little that no measurement here would tell them apart."""
    return one.deployment == other.deployment and abs(one.delay_us - other.delay_us) < 300 and close(one, other)


def close(one: Candidate, other: Candidate) -> bool:
    """Whether the largest batches differ by less than four times."""
    sizes = [max(each.preferred, default=each.max_batch_size) for each in (one, other)]
    return max(sizes) < 4 * min(sizes)
