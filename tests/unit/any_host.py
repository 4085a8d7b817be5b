"""Random hosts and batching through the twin; fails where one loses a request or reads beyond its arrays."""

import numpy as np

from tools.tune.candidates import Candidate, Deployment
from tools.tune.twin import Host, closed_loop, open_loop

CASES = 60
REQUESTS = 300


def host(random: np.random.Generator) -> Host:
    """Times over four orders of magnitude, a fifth of them zero."""
    times = np.exp(random.uniform(np.log(1e-6), np.log(5e-3), 7)) * (random.random(7) < 0.8)
    cores = float(random.choice([1.0, 2.0, np.inf]))
    return Host(cores, *map(float, times), 0.3, 1e-5, random.uniform(0, 50), random.uniform(0, 0.004))


def choice(random: np.random.Generator) -> Candidate:
    """Any batching."""
    size = int(random.choice([1, 4, 64]))
    preferred = (size // 2,) if size > 1 and random.random() < 0.5 else ()
    deployment = Deployment(int(random.integers(1, 5)), int(random.integers(1, 3)))
    return Candidate(deployment, size, int(random.choice([0, 500, 20_000])), preferred)


def main() -> None:
    random = np.random.default_rng(5)
    for _ in range(CASES):
        machine, batching = host(random), choice(random)
        unit = np.cumsum(random.exponential(size=REQUESTS))
        rate, callers = float(np.exp(random.uniform(0, 10))), int(random.integers(1, 80))
        for run in (open_loop(machine, batching, rate, unit), closed_loop(machine, batching, callers, REQUESTS)):
            assert np.isfinite(run.latency).all() and (run.latency > 0).all(), (machine, batching)
            assert 1 <= run.mean_batch <= batching.max_batch_size, (machine, batching)


if __name__ == "__main__":
    main()
