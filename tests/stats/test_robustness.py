"""Expected best of k, rank stability and main effects against enumeration, closed forms and known worlds."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preflab.stats.comparisons import paired_comparison
from preflab.stats.robustness import (
    Grid,
    expected_best,
    expected_best_intervals,
    expected_best_scores,
    main_effects,
    rank_stability,
    resampled_means,
)

finite = st.floats(-10, 10, allow_subnormal=False)


def enumerated(values, order):
    """Return the expected score of the chosen setting over all subsets; equal settings are chosen equally often."""
    result = []
    for k in range(1, len(values) + 1):
        scores = []
        for subset in itertools.combinations(range(len(values)), k):
            top = max(order[i] for i in subset)
            chosen = [values[i] for i in subset if order[i] == top]
            scores.append(np.mean(chosen))
        result.append(np.mean(scores))
    return result


@given(st.lists(finite, min_size=1, max_size=7, unique=True))
def test_expected_best_is_the_mean_over_all_subsets(values):
    np.testing.assert_allclose(expected_best(values), enumerated(values, values), rtol=1e-9, atol=1e-9)


@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=7, unique_by=lambda pair: pair[1]))
def test_a_search_that_chooses_by_validation_gets_the_score_of_what_it_chose(pairs):
    values, order = zip(*pairs, strict=True)
    np.testing.assert_allclose(expected_best(values, order), enumerated(values, order), rtol=1e-9, atol=1e-9)


@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=6, unique_by=lambda pair: pair[1]), st.data())
def test_the_expected_best_of_every_seed_and_item_is_the_mean_over_all_subsets(pairs, data):
    levels, order = map(np.array, zip(*pairs, strict=True))
    k = data.draw(st.integers(1, len(order)))
    values = levels[:, None, None] * np.array([1.0, -2.0])[:, None] + np.array([0.0, 3.0, 5.0])
    found = expected_best_scores(Grid(values, order), k)
    assert found.shape == (2, 3)
    for seed, item in itertools.product(range(2), range(3)):
        assert found[seed, item] == pytest.approx(enumerated(values[:, seed, item], order)[k - 1], abs=1e-8)


@pytest.mark.parametrize("k", [0, 3])
def test_more_settings_than_there_are_cannot_be_tried(k):
    with pytest.raises(ValueError, match="k must be from 1 to the number of settings, 2"):
        expected_best_scores(world([0.4, 0.5]), k)


def test_equal_settings_share_the_choice():
    found = expected_best([0.0, 1.0, 5.0], [2.0, 2.0, 1.0])
    # All three: the two preferred ones are chosen equally often. One: the mean.
    assert found[2] == pytest.approx(0.5)
    assert found[0] == pytest.approx(2.0)


@given(st.lists(finite, min_size=1, max_size=12), st.randoms())
def test_expected_best_rises_with_k_from_mean_to_maximum_whatever_the_order(values, random):
    curve = expected_best(values)
    assert curve[0] == pytest.approx(np.mean(values), abs=1e-9)
    assert curve[-1] == pytest.approx(max(values), abs=1e-9)
    assert (np.diff(curve) > -1e-9).all()
    random.shuffle(values)
    np.testing.assert_allclose(expected_best(values), curve, atol=1e-9)


def test_a_setting_no_search_would_choose_counts_only_where_all_tried_are_such():
    found = expected_best([0.3, 0.9, 0.1], [-np.inf, 1.0, 0.5])
    assert found[0] == pytest.approx((0.3 + 0.9 + 0.1) / 3)
    assert found[1] == pytest.approx((0.9 + 0.9 + 0.1) / 3)


def world(means, *, n_seeds=6, n_items=40, seed_sd=0.0, item_sd=0.0, rng=0):
    """Return a grid whose settings have these means, a deviation per seed and one per item."""
    rng = np.random.default_rng(rng)
    means = np.asarray(means, dtype=float)
    values = np.broadcast_to(means[:, None, None], (len(means), n_seeds, n_items)).copy()
    values += seed_sd * rng.standard_normal((len(means), n_seeds, 1)) + item_sd * rng.standard_normal((1, 1, n_items))
    return Grid(values, means)


def test_draws_have_the_standard_error_of_the_mean_over_seeds_and_items():
    grid = world([0.5], n_seeds=8, n_items=50, seed_sd=0.2, item_sd=0.4)
    seeds, items = grid.values.mean(axis=2)[0], grid.values.mean(axis=1)[0]
    for over, values in (("seeds", seeds), ("items", items)):
        drawn = resampled_means([grid], over=(over,), n_resamples=20_000)[0]
        assert drawn.std() == pytest.approx(values.std(ddof=1) / np.sqrt(len(values)), rel=0.03)
        assert drawn.mean() == pytest.approx(grid.means[0], abs=0.005)


def test_items_of_one_cluster_are_drawn_together():
    values = np.repeat(np.random.default_rng(1).normal(size=(1, 1, 20)), 5, axis=2)
    labels = np.repeat(np.arange(20), 5)
    together = resampled_means([Grid(values, np.zeros(1))], clusters=labels, n_resamples=5000)[0].std()
    assert together == pytest.approx(values[0, 0, ::5].std(ddof=1) / np.sqrt(20), rel=0.05)


def test_intervals_of_the_expected_best_hold_the_truth_about_as_often_as_they_say():
    truth = expected_best([0.0, 0.1, 0.2, 0.3])
    held = np.zeros(4)
    n = 200
    for k in range(n):
        grid = world([0.0, 0.1, 0.2, 0.3], n_seeds=10, n_items=1, seed_sd=0.1, rng=k)
        intervals = expected_best_intervals(grid)
        held += [i.low <= t <= i.high for i, t in zip(intervals, truth, strict=True)]
    assert (held / n > 0.92).all() and (held / n < 0.98).all()


def test_one_seed_and_one_item_leave_no_interval():
    (interval,) = expected_best_intervals(world([0.4], n_seeds=1, n_items=1))
    assert np.isnan(interval.low) and interval.estimate == 0.4


def test_a_method_that_is_better_at_every_setting_stays_first():
    grids = {"good": world([0.6, 0.7], item_sd=1.0), "bad": world([0.1, 0.2], item_sd=1.0)}
    for statistic in ("best", "median"):
        found = rank_stability(grids, statistic)
        assert set(found.first) == {"settings", "seeds", "items", "all"}
        assert all(shares == {"good": 1.0, "bad": 0.0} for shares in found.first.values())
        assert all(tau == 1.0 for tau in found.tau.values())
        assert all(bounds == (1.0, 1.0) for bounds in found.tau_range.values())


def test_a_method_with_one_lucky_setting_wins_at_its_best_and_loses_in_the_middle():
    grids = {"safe": world([0.5] * 9), "lucky": world([0.9, *[0.1] * 8])}
    best, median = rank_stability(grids, "best"), rank_stability(grids, "median")
    # The lucky setting is missing from (8/9)^9 of the draws of settings.
    assert best.first["settings"]["lucky"] == pytest.approx(1 - (8 / 9) ** 9, abs=0.04)
    assert best.first["seeds"]["lucky"] == 1.0
    assert median.first["seeds"]["safe"] == 1.0
    assert median.first["all"]["safe"] > 0.99  # five lucky ones among nine draws of settings are rare


def test_equal_methods_share_the_first_place():
    found = rank_stability({"a": world([0.5, 0.6]), "b": world([0.5, 0.6])}, "median")
    assert found.first["items"] == {"a": 0.5, "b": 0.5}
    assert found.tau["items"] == 0.0 and found.tau_range["items"] == (0.0, 0.0)


def test_main_effects_of_an_additive_grid_add_up_to_the_whole_variance():
    settings = [{"beta": b, "rate": r} for b in (0.1, 0.5) for r in (1e-4, 1e-3, 1e-2)]
    grid = world([s["beta"] + 100 * s["rate"] for s in settings])
    found = main_effects(grid, settings)
    assert found["beta"].levels[0.5] - found["beta"].levels[0.1] == pytest.approx(0.4)
    assert found["rate"].span.estimate == pytest.approx(0.99)
    assert found["beta"].share + found["rate"].share == pytest.approx(1.0)
    assert list(found["rate"].levels) == [1e-4, 1e-3, 1e-2]


def test_a_hyperparameter_that_does_not_vary_has_no_effect_to_tell():
    settings = [{"beta": 0.1, "rate": r, "kind": "a"} for r in (1, 2)]
    found = main_effects(world([0.1, 0.3]), settings)
    assert set(found) == {"rate"}
    assert found["rate"].share == pytest.approx(1.0)


def test_interactions_are_what_main_effects_leave():
    settings = [{"a": a, "b": b} for a in (0, 1) for b in (0, 1)]
    found = main_effects(world([1.0, 0.0, 0.0, 1.0]), settings)
    assert found["a"].share == found["b"].share == 0.0


@pytest.mark.parametrize(
    ("values", "chosen_by"),
    [(np.zeros((2, 1)), np.zeros(2)), (np.full((1, 1, 1), np.nan), np.zeros(1)), (np.zeros((2, 1, 1)), np.zeros(3)),
     (np.zeros((1, 1, 1)), np.array([np.nan]))],
)  # fmt: skip
def test_a_grid_of_wrong_shape_or_without_numbers_is_refused(values, chosen_by):
    with pytest.raises(ValueError, match="grid needs"):
        Grid(values, chosen_by)


@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_of_expected_bests_and_of_their_difference_cover_the_truth(seeds):
    """Two grids of unlike size; validation prefers what the same lucky seeds favour, as it does in a study."""
    rng, items, k, n = np.random.default_rng(3), 60, 3, 300
    truths, alone, paired = [rng.normal(0.6, 0.05, size) for size in (3, 6)], 0, 0
    for _ in range(n):
        difficulty, grids, expected = rng.normal(0, 0.3, items), [], []
        for truth in truths:
            luck = rng.normal(0, 0.03, (len(truth), seeds, 1))
            values = truth[:, None, None] + difficulty + rng.normal(0, 0.1, items) + luck
            grid = Grid(values + rng.normal(0, 0.2, values.shape), truth + luck.mean(axis=(1, 2)))
            grids.append(grid)
            expected.append(expected_best(truth, grid.chosen_by)[k - 1])
        interval = expected_best_intervals(grids[1])[k - 1]
        alone += interval.low <= expected[1] <= interval.high
        gap = paired_comparison(*(expected_best_scores(grid, k) for grid in grids)).difference
        paired += gap.low <= expected[0] - expected[1] <= gap.high
    # Of 300 draws two standard errors are 0.025.
    assert 0.925 <= paired / n <= 0.98
    assert 0.925 <= alone / n <= 0.98
