"""A comparison's arithmetic and its page; families are those of the repository's own recipes."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from loadtest.analysis.intervals import paired_p_value, wilson_interval
from tools import recipes
from tools.compare.__main__ import front
from tools.compare.measurement import Member, family, root
from tools.compare.page import family_page
from tools.recipes import Recipe, RecipeError

MEMBER = Member("base", 1, 0.9, 0.88, 0.92, 0.0, 1.0, 200_000, 60_000, 150_000_000, 0.5, 4000.0, 3900.0, 4100.0)


def right(*counts: tuple[bool, int]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.concatenate([np.full(count, value) for value, count in counts])


def test_the_interval_is_wilsons() -> None:
    n, p, z = 400, 0.97, float(norm.ppf(0.975))
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    assert wilson_interval(388, 400) == pytest.approx((centre - half, centre + half))


def test_a_perfect_score_still_has_an_interval() -> None:
    low, high = wilson_interval(100, 100)
    assert 0.95 < low < 0.97 and high == 1.0


def test_the_paired_test_counts_only_images_on_which_two_models_differ() -> None:
    parent = right((True, 900), (False, 100))
    same, worse = parent.copy(), parent.copy()
    worse[:10] = False
    assert paired_p_value(same, parent) == 1.0
    # Ten of ten against it: both tails of ten coins.
    assert paired_p_value(worse, parent) == pytest.approx(2 * 0.5**10)
    assert paired_p_value(np.tile(worse, 7), np.tile(parent, 7)) < 1e-15


def test_the_front_is_what_nothing_else_equals_or_beats_in_both() -> None:
    points = {
        "a": (0.9, 10.0),
        "b": (0.8, 20.0),
        "c": (0.85, 9.0),
        "d": (0.8, 15.0),
        "e": (0.7, 20.0),
        "f": (0.5, 30.0),
    }
    assert front(points) == ["a", "b", "f"]


@pytest.mark.parametrize("model", ["cifar10_cnn", "cifar10_cnn_int8", "cifar10_cnn_distilled"])
def test_any_member_leads_to_the_whole_family_with_its_teachers(model: str) -> None:
    members = family(model)
    assert members[0] == "cifar10_cnn"
    assert {"cifar10_cnn_int8", "cifar10_cnn_wide", "cifar10_cnn_pruned50"} < set(members)
    assert all(root(name) in ("cifar10_cnn", "cifar10_cnn_wide") for name in members)


def test_every_variant_has_its_parents_contract_and_a_budget() -> None:
    for name in recipes.names():
        recipe = recipes.load(name)
        if isinstance(recipe, Recipe) and recipe.parent:
            assert recipe.budget is not None, name
            assert recipe.data == recipes.trained(recipe.parent).data


def test_a_model_without_variants_is_an_error_that_says_what_makes_one() -> None:
    with pytest.raises(RecipeError, match="no recipe"):
        family("nope")


def test_the_page_shows_every_member_marks_the_front_and_says_what_the_fastest_costs() -> None:
    fast = replace(MEMBER, name="fast<b>", accuracy=0.89, rate=9000.0, difference=-0.01, p_value=0.04)
    page = family_page([MEMBER, fast], ["base", "fast<b>"], "setting").html()
    assert page.count('<tr class="marked">') == 2
    assert "fast&lt;b&gt;" in page and "fast<b>" not in page
    assert page.count('class="plot"') == 1 and "-1.00" in page and "2.25" in page
    assert "9,000 inferences per second (2.25 times those of base), accuracy 89.00% (-1.00 points, p = 0.04)" in page
    assert "Most accurate: base, 90.00%." in page


def test_a_root_that_nothing_beats_is_not_compared_with_itself() -> None:
    page = family_page([MEMBER, replace(MEMBER, name="slow", rate=1.0)], ["base"], "setting")
    assert page.found == ("Fastest: base, 4,000 inferences per second, accuracy 90.00%. Most accurate: base, 90.00%.")
