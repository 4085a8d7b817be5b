"""The search for the highest sustained rate, against servers whose peak is known and whose trials are noisy."""

from typing import Any

import numpy as np
import pytest

from loadtest import peak, slo
from loadtest.belief import unknown
from loadtest.load import Load

PEAK = 730.0
OBJECTIVES = slo.parse("p99<20ms")
ARGUMENTS = peak.parser().parse_args(["model", "--slo", "p99<20ms", "--budget", "1e9"])


def trials(seed: int, wrong: float = 0.0, valid: bool = True) -> peak.Trial:
    """A server with that peak; trials near it doubt, and a share of all the others is plainly wrong."""
    random = np.random.default_rng(seed)

    def trial(load: Load) -> dict[str, Any]:
        rate = load.rate or 0.0
        ms = 20 * (rate / PEAK) ** 4 * random.lognormal(sigma=0.1)
        ms = 400 / max(ms, 0.01) if random.uniform() < wrong else ms
        return {
            **{"rate": rate, "requests": 1000, "p50_ms": 1.0, "p99_ms": ms, "rps": rate, "goodput_rps": rate},
            **{"valid": valid, "passed": ms < 20, "steady": True},
            **{"server_rps": 1.5 * PEAK, "explanation": []},
        }

    return trial


@pytest.mark.parametrize("wrong", [0.0, 0.1])
def test_the_peak_is_found_and_its_interval_holds_it_as_often_as_it_says(wrong: float) -> None:
    found = [peak.search(trials(seed, wrong), OBJECTIVES, ARGUMENTS) for seed in range(20)]
    assert all(one.narrow(ARGUMENTS.precision) for one in found)
    assert np.median([one.belief.at(0.5) for one in found]) == pytest.approx(PEAK, rel=0.03)
    held = [one.belief.interval()[0] * 0.97 <= PEAK <= one.belief.interval()[1] * 1.03 for one in found]
    assert np.mean(held) >= 0.8
    assert np.median([len(one.tried) for one in found]) <= 15


def test_one_wrong_answer_is_made_good_by_later_ones() -> None:
    belief = unknown(10, 1000).after(800, False).after(100, False)  # The second one is wrong.
    for rate in (90, 150, 300, 400, 450, 490):
        belief = belief.after(rate, True).after(530, False)
    assert 450 < belief.at(0.5) < 520


def test_a_peak_above_all_that_is_looked_at_is_told_as_at_least() -> None:
    def easy(load: Load) -> dict[str, Any]:
        return {**trials(0)(load), "passed": True}

    document = peak.document_of(peak.search(easy, OBJECTIVES, ARGUMENTS), ARGUMENTS)
    assert document["at_least"] and peak.exit_code(document) == 0


def test_trials_of_which_the_generator_was_the_bottleneck_shift_no_belief_and_end_the_search() -> None:
    found = peak.search(trials(0, valid=False), OBJECTIVES, ARGUMENTS)
    assert not found.tried and len(set(found.belief.weights)) == 1
    assert peak.exit_code(peak.document_of(found, ARGUMENTS)) == 3


def test_a_trial_lasts_until_its_percentile_has_enough_requests() -> None:
    assert peak.trial_seconds(1000, 5.0, OBJECTIVES) == 5.0
    assert peak.trial_seconds(10, 5.0, OBJECTIVES) == pytest.approx(1.3 * 36.8)
