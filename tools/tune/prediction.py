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
    """What the twin expects of a candidate that meets the objectives."""

    candidate: Candidate
    figure: float  # what the goal optimizes
    rate: float  # the highest rate within the objectives, or the goal's
    latency_ms: float  # the goal's percentile at that rate


def arrivals() -> Array:
    """Poisson arrivals at one per second, the same for all candidates, so that chance favors none of them."""
    return np.cumsum(np.random.default_rng(1).exponential(size=_MAX_REQUESTS))


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
    size, deployment = candidate.max_batch_size, candidate.deployment
    batch = (host.start + host.rest + host.wake) / size + host.each
    threads = max(1, deployment.threads)
    # The rate of full batches without any waste.
    high = 1.05 * min(deployment.instances / batch, host.cores / (host.front + threads * batch))
    low = 0.02 * high
    if not _is_sustained(run(host, candidate, low, unit), goal):
        return None
    for _ in range(_HALVINGS):
        rate = float(np.sqrt(low * high))
        low, high = (rate, high) if _is_sustained(run(host, candidate, rate, unit), goal) else (low, rate)
    return low


def _predict(host: Host, candidate: Candidate, goal: Goal, unit: Array) -> Prediction | None:
    rate = goal.rate or peak(host, candidate, goal, unit)
    if rate is None:
        return None
    simulated = run(host, candidate, rate, unit)
    if goal.rate is not None and not _is_sustained(simulated, goal):
        return None
    latency = percentile_ms(simulated, goal.share)
    figures = {"throughput": rate, "latency": latency, "cost": 1e6 * simulated.work / len(simulated.latency)}
    return Prediction(candidate, figures[goal.name], rate, latency)


def rank(hosts: Mapping[Deployment, Host], candidates: list[Candidate], goal: Goal) -> list[Prediction]:
    """Predict all candidates that can be simulated; the best first, without those that miss the objectives."""

    def order(prediction: Prediction) -> tuple[float, int, int, int]:
        # By the figure in steps, then simpler, quicker and more permissive settings first.
        step = round(np.log(max(prediction.figure, 1e-9)) / _STEP)
        own = prediction.candidate
        return (step if goal.is_lower_better else -step, len(own.preferred), own.delay_us, -own.max_batch_size)

    def predictions(among: list[Candidate], unit: Array) -> list[Prediction]:
        figures = [_predict(hosts[candidate.deployment], candidate, goal, unit) for candidate in among]
        return sorted((prediction for prediction in figures if prediction), key=order)

    unit = arrivals()
    # Short simulations of all, then of the promising ones as long as a trial.
    quick = predictions([candidate for candidate in candidates if candidate.deployment in hosts], unit[:_MIN_REQUESTS])
    promising = [prediction.candidate for prediction in quick[: len(hosts) * _CLOSER]]
    return predictions(promising, unit) + quick[len(promising) :]


def shortlist(ranked: list[Prediction], base: Candidate, count: int) -> list[Candidate]:
    """Choose the candidates that are worth measuring.

    The committed settings come first. Then, for each deployment that is not hopeless, the calibration candidate, of
    which the twin is surest; for the better deployments their best; then the best of the others, leaving out those
    that a measurement could not tell from the ones before.
    """
    best: dict[Deployment, Prediction] = {}
    for prediction in ranked:
        best.setdefault(prediction.candidate.deployment, prediction)
    possible = [own for own in best.values() if _is_near(own, ranked[0], _HOPELESS)]
    calibrated = [calibration_candidate(base, own.candidate.deployment) for own in possible]
    able = {prediction.candidate for prediction in ranked}
    chosen = [base, *(candidate for candidate in calibrated if candidate in able)]
    chosen += [own.candidate for own in possible if _is_near(own, ranked[0], _DOUBTFUL)]
    for prediction in ranked:
        if not any(_are_alike(prediction.candidate, other) for other in chosen):
            chosen.append(prediction.candidate)
    return list(dict.fromkeys(chosen))[:count]


def _is_near(prediction: Prediction, best: Prediction, factor: float) -> bool:
    return max(prediction.figure, best.figure) < factor * min(prediction.figure, best.figure)


def _are_alike(first: Candidate, second: Candidate) -> bool:
    sizes = [max(candidate.preferred, default=candidate.max_batch_size) for candidate in (first, second)]
    close = abs(first.delay_us - second.delay_us) < 300 and max(sizes) < 4 * min(sizes)
    return close and first.deployment == second.deployment
