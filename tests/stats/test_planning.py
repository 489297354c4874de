"""Seeds and items a next study needs: closed forms, and the power that was promised, by simulation."""

import numpy as np
import pytest

from preflab.stats.comparisons import paired_comparison
from preflab.stats.planning import Components, components


def world(rng, n_seeds, n_items, *, seeds, items, rest, difference=0.0):
    """Return two methods' scores whose differences have these standard deviations by source."""
    gap = difference + seeds * rng.standard_normal((n_seeds, 1)) + items * rng.standard_normal((1, n_items))
    gap = gap + rest * rng.standard_normal((n_seeds, n_items))
    second = np.zeros((n_seeds, n_items))
    return second + gap, second


def test_sources_of_variance_are_found():
    found = [components(*world(np.random.default_rng(k), 12, 80, seeds=0.3, items=0.5, rest=0.8)) for k in range(200)]
    assert np.mean([f.seeds for f in found]) == pytest.approx(0.09, rel=0.1)
    assert np.mean([f.items for f in found]) == pytest.approx(0.25, rel=0.1)
    assert np.mean([f.rest for f in found]) == pytest.approx(0.64, rel=0.05)


def test_prompts_alone_need_what_the_normal_formula_says():
    found = Components(0.0, 1.0, 0.0, 2, 100)
    # n = (1.96 + 0.84)² σ² / d², a little more for the t distribution.
    assert found.items_needed(0.1) == pytest.approx((1.96 + 0.8416) ** 2 / 0.01, rel=0.01)
    assert found.seeds_needed(0.1) is None  # more seeds do not help


def test_the_number_is_the_fewest():
    found = Components(0.04, 0.5, 0.3, 3, 100)
    n = found.seeds_needed(0.3)
    assert found.detectable(n, 100) <= 0.3 < found.detectable(n - 1, 100)


def test_a_study_of_the_planned_size_finds_the_difference_four_times_in_five():
    rng = np.random.default_rng(0)
    parts = {"seeds": 0.05, "items": 0.3, "rest": 0.5}
    planned = Components(parts["seeds"] ** 2, parts["items"] ** 2, parts["rest"] ** 2, 3, 100)
    n = planned.seeds_needed(0.12)
    found = [paired_comparison(*world(rng, n, 100, difference=0.12, **parts)).p < 0.05 for _ in range(400)]
    assert 0.72 < np.mean(found) < 0.9


def test_no_variance_needs_two_and_one_seed_says_nothing():
    assert Components(0.0, 0.0, 0.0, 2, 2).seeds_needed(0.1) == 2
    with pytest.raises(ValueError, match="two seeds"):
        components(np.zeros((1, 4)), np.zeros((1, 4)))


def test_as_many_items_as_are_asked_for_at_most_are_found_and_more_are_not():
    one = components(*np.random.default_rng(0).normal(size=(2, 3, 50)))
    wanted = one.detectable(3, 9_000)
    assert one.items_needed(wanted) == pytest.approx(9_000, abs=1)
    assert one.items_needed(one.detectable(3, 10_500)) is None
