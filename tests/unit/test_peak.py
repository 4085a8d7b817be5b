"""The search for the highest sustained rate, against servers whose peak is known and whose trials are noisy."""

from dataclasses import replace

import numpy as np
import pytest

from loadtest import slo
from loadtest.analysis import highest_rate as peak
from loadtest.analysis.explain import explain
from loadtest.analysis.peak_search import trial_seconds, uniform_belief
from loadtest.analysis.result import RunResult
from loadtest.load import Load
from tests.unit.results import percentiles, result, with_problem

PEAK = 730.0
OBJECTIVES = slo.parse("p99<20ms")
PRECISION = 0.15


def trials(
    seed: int, wrong: float = 0.0, valid: bool = True, ms: float | None = None, counted_share: float = 1.0
) -> peak.Trial:
    """A server with that peak; trials near it doubt, and a share of all the others is plainly wrong.

    Behind a door, counters are those of one replica: of a share of the requests.
    """
    random = np.random.default_rng(seed)

    def trial(load: Load) -> RunResult:
        noisy = 20 * ((load.rate or 0.0) / PEAK) ** 4 * random.lognormal(sigma=0.1)
        noisy = 400 / max(noisy, 0.01) if random.uniform() < wrong else noisy
        requests = round(1.5 * PEAK * load.duration)
        seen = {"percentiles": percentiles(p99=ms or noisy), "requests": requests, "errors": 0}
        measured = result(load=load, objectives=tuple(OBJECTIVES), figures=seen)
        counted = replace(measured.server.counted, requests=round(counted_share * requests))
        measured = replace(measured, server=replace(measured.server, counted=counted))
        return replace(measured, explanation=explain(measured)) if valid else with_problem(measured, "late")

    return trial


def find(trial: peak.Trial) -> peak.Peak:
    return peak.find_peak(trial, OBJECTIVES, peak.Effort(5.0, 1e9, PRECISION), seed=0)


@pytest.mark.parametrize("wrong", [0.0, 0.1])
def test_the_peak_is_found_and_its_interval_holds_it_as_often_as_it_says(wrong: float) -> None:
    peaks = [find(trials(seed, wrong)) for seed in range(20)]
    assert all(one.search.is_narrow(PRECISION) for one in peaks)
    beliefs = [one.search.belief for one in peaks]
    assert np.median([belief.quantile(0.5) for belief in beliefs]) == pytest.approx(PEAK, rel=0.03)
    held = [belief.interval()[0] * 0.97 <= PEAK <= belief.interval()[1] * 1.03 for belief in beliefs]
    assert np.mean(held) >= 0.8
    assert np.median([len(one.trials) for one in peaks]) <= 15


def test_the_outcome_names_the_highest_sustained_rate_and_what_bounded_the_lowest_that_was_not() -> None:
    found = find(trials(1))
    document = found.document()
    sustained = [trial["rate"] for trial in document["trials"] if trial["sustained"]]
    assert document["sustained_rps"] == round(max(sustained), 2) <= document["high_rps"]
    assert document["low_rps"] < document["peak_rps"] < document["high_rps"] and found.exit_code == 0
    assert document["bound"][0].startswith("nothing: ") and not document["at_least"]


def test_one_wrong_answer_is_made_good_by_later_ones() -> None:
    belief = uniform_belief(10, 1000).after(800, False).after(100, False)  # The second one is wrong.
    for rate in (90, 150, 300, 400, 450, 490):
        belief = belief.after(rate, True).after(530, False)
    assert 450 < belief.quantile(0.5) < 520


def test_a_peak_above_the_searched_range_is_reported_as_a_lower_bound() -> None:
    found = find(trials(0, ms=1.0))
    assert found.document()["at_least"] and found.exit_code == 0


def test_behind_a_door_the_counters_of_one_replica_bound_no_search() -> None:
    document = find(trials(0, counted_share=0.3)).document()
    assert document["peak_rps"] == pytest.approx(PEAK, rel=0.1) and not document["at_least"]


def test_trials_of_which_the_generator_was_the_bottleneck_shift_no_belief_and_end_the_search() -> None:
    found = find(trials(0, valid=False))
    assert not found.trials and len(set(found.search.belief.weights)) == 1
    assert found.exit_code == 3


def test_a_trial_lasts_until_its_percentile_has_enough_requests() -> None:
    assert trial_seconds(1000, 5.0, OBJECTIVES) == 5.0
    assert trial_seconds(10, 5.0, OBJECTIVES) == pytest.approx(1.3 * 36.8)
