"""The twin's predictions: thousands of candidates in seconds, of which a few are then measured."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tools.tune.candidates import Candidate, Deployment, calibration_candidate
from tools.tune.goal import Goal
from tools.tune.twin import Array, Host, Simulated, open_loop

_MIN_REQUESTS, _MAX_REQUESTS, _SECONDS = 3000, 20_000, 2.0  # of a simulated run
_HALVINGS = 7
_CLOSER = 30  # candidates for each deployment that get a long simulation
_WARM_UP = 0.1  # share of a run
# Predictions whose logarithms differ by less than a step count as equal. A deployment whose best is worse than the
# overall best by a factor of _HOPELESS is left out; by _DOUBTFUL, only its calibration candidate is measured.
_STEP, _HOPELESS, _DOUBTFUL = 0.1, 2.0, 1.3
# The server keeps up if the last third's median latency is at most this times the middle third's.
_DRIFT = 4 / 3


@dataclass(frozen=True)
class Prediction:
    """What the twin expects of a candidate.

    Attributes:
        figure: what the goal optimizes; None where the objectives cannot be met.
        rate: the highest rate within the objectives, or the goal's.
        latency_ms: the goal's percentile at that rate.
        mean_batch: inferences per execution at that rate.
        work_us: processor microseconds per request at that rate.
    """

    candidate: Candidate
    figure: float | None
    rate: float
    latency_ms: float
    mean_batch: float
    work_us: float


def arrivals(seed: int = 1) -> Array:
    """Poisson arrivals at one per second, the same for all candidates, so that chance favors none of them."""
    return np.cumsum(np.random.default_rng(seed).exponential(size=_MAX_REQUESTS))


def run(host: Host, candidate: Candidate, rate: float, unit: Array) -> Simulated:
    """Simulate a trial."""
    return open_loop(host, candidate, rate, unit[: int(np.clip(_SECONDS * rate, _MIN_REQUESTS, _MAX_REQUESTS))])


def percentile_ms(simulated: Simulated, share: float) -> float:
    """A latency percentile, given as a share, without the warm-up."""
    return 1000 * float(np.quantile(simulated.latency[int(_WARM_UP * len(simulated.latency)) :], share))


def _is_sustained(simulated: Simulated, goal: Goal) -> bool:
    third = len(simulated.latency) // 3
    middle, last = simulated.latency[third : 2 * third], simulated.latency[-third:]
    drifts = np.median(last) > _DRIFT * np.median(middle)
    return percentile_ms(simulated, goal.share) < goal.limit_ms and not drifts


def peak(host: Host, candidate: Candidate, goal: Goal, unit: Array) -> float | None:
    """The highest rate within the goal's limit; None where there is none."""
    low, high = 0.02 * _ceiling(host, candidate), _ceiling(host, candidate)
    if not _is_sustained(run(host, candidate, low, unit), goal):
        return None
    for _ in range(_HALVINGS):
        rate = float(np.sqrt(low * high))
        low, high = (rate, high) if _is_sustained(run(host, candidate, rate, unit), goal) else (low, rate)
    return low


def _ceiling(host: Host, candidate: Candidate) -> float:
    """The rate of full batches without any waste."""
    size, deployment = candidate.max_batch_size, candidate.deployment
    batch = (host.start + host.rest + host.wake) / size + host.each
    threads = max(1, deployment.threads)
    return 1.05 * min(deployment.instances / batch, host.cores / (host.front + threads * batch))


def _predict(host: Host, candidate: Candidate, goal: Goal, unit: Array) -> Prediction:
    rate = goal.rate or peak(host, candidate, goal, unit)
    if rate is None:
        return Prediction(candidate, None, 0.0, float("inf"), 0.0, 0.0)
    simulated = run(host, candidate, rate, unit)
    latency = percentile_ms(simulated, goal.share)
    work = 1e6 * simulated.work / len(simulated.latency)
    figures = {"throughput": rate, "latency": latency, "cost": work}
    figure = figures[goal.name] if goal.rate is None or _is_sustained(simulated, goal) else None
    return Prediction(candidate, figure, rate, latency, simulated.mean_batch, work)


def rank(hosts: Mapping[Deployment, Host], candidates: list[Candidate], goal: Goal) -> list[Prediction]:
    """Predict all candidates that can be simulated; the best first, without those that miss the objectives."""

    def predictions(among: list[Candidate], unit: Array) -> list[Prediction]:
        figures = [_predict(hosts[candidate.deployment], candidate, goal, unit) for candidate in among]
        able = [prediction for prediction in figures if prediction.figure is not None]
        return sorted(able, key=lambda prediction: _order(prediction, goal))

    unit = arrivals()
    # Short simulations of all, then of the promising ones as long as a trial.
    quick = predictions([candidate for candidate in candidates if candidate.deployment in hosts], unit[:_MIN_REQUESTS])
    promising = [prediction.candidate for prediction in quick[: len(hosts) * _CLOSER]]
    return predictions(promising, unit) + quick[len(promising) :]


def _order(prediction: Prediction, goal: Goal) -> tuple[float, int, int, int]:
    """Sort by the figure in steps, then simpler, quicker and more permissive settings first."""
    assert prediction.figure is not None
    step = round(np.log(max(prediction.figure, 1e-9)) / _STEP)
    candidate = prediction.candidate
    order = (len(candidate.preferred), candidate.delay_us, -candidate.max_batch_size)
    return (step if goal.is_lower_better else -step, *order)


def shortlist(ranked: list[Prediction], base: Candidate, count: int) -> list[Candidate]:
    """Choose the candidates that are worth measuring.

    The committed settings come first. Then, for each deployment that is not hopeless, the calibration candidate, of
    which the twin is surest; for the better deployments their best; then the best of the others, leaving out those
    that a measurement could not tell from the ones before.
    """
    best: dict[Deployment, Prediction] = {}
    for prediction in ranked:
        best.setdefault(prediction.candidate.deployment, prediction)
    possible = [deployment for deployment in best if _is_near(best[deployment], ranked[0], _HOPELESS)]
    calibrated = [calibration_candidate(base, deployment) for deployment in possible]
    able = {prediction.candidate for prediction in ranked}
    chosen = [base, *(candidate for candidate in calibrated if candidate in able)]
    chosen += [best[each].candidate for each in possible if _is_near(best[each], ranked[0], _DOUBTFUL)]
    for prediction in ranked:
        if not any(_are_alike(prediction.candidate, other) for other in chosen):
            chosen.append(prediction.candidate)
    return list(dict.fromkeys(chosen))[:count]


def _is_near(prediction: Prediction, best: Prediction, factor: float) -> bool:
    assert prediction.figure is not None and best.figure is not None
    return max(prediction.figure, best.figure) < factor * min(prediction.figure, best.figure)


def _are_alike(first: Candidate, second: Candidate) -> bool:
    sizes = [max(candidate.preferred, default=candidate.max_batch_size) for candidate in (first, second)]
    close = abs(first.delay_us - second.delay_us) < 300 and max(sizes) < 4 * min(sizes)
    return close and first.deployment == second.deployment
