import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from statsmodels.regression.linear_model import OLS

from preflab.stats import intervals as iv

finite = st.floats(-1e3, 1e3, allow_nan=False, width=32)


def test_mean_interval_equals_scipy_t_interval():
    x = np.random.default_rng(1).normal(2.0, 3.0, 37)
    ours = iv.mean_interval(x)
    theirs = stats.t.interval(0.95, 36, loc=x.mean(), scale=stats.sem(x))
    assert (ours.low, ours.high) == pytest.approx(theirs, rel=1e-12)
    assert (ours.n, ours.df, ours.kind) == (37, 36, "items")


def test_duplicated_items_in_clusters_change_nothing_but_unclustered_shrink():
    x = np.random.default_rng(2).normal(size=25)
    repeated, labels = np.repeat(x, 4), np.repeat(np.arange(25), 4)
    honest = iv.mean_interval(repeated, clusters=labels)
    assert honest.se == pytest.approx(iv.mean_interval(x).se, rel=1e-12)
    assert (honest.n, honest.df, honest.kind) == (25, 24, "clusters")
    assert iv.mean_interval(repeated).se == pytest.approx(honest.se / 2, rel=0.02)


def test_clustered_interval_equals_statsmodels():
    rng = np.random.default_rng(10)
    labels = rng.integers(12, size=70)
    x = rng.normal(size=12)[labels] + rng.normal(size=70)
    groups = {"groups": labels, "df_correction": True}
    theirs = OLS(x, np.ones(70)).fit(cov_type="cluster", cov_kwds=groups, use_t=True)
    ours = iv.mean_interval(x, clusters=labels)
    # Their correction is G/(G-1) (n-1)/(n-k), with one coefficient k.
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.conf_int()[0]))


def test_cluster_labels_may_be_texts_of_unequal_counts():
    x = np.array([1.0, 2.0, 4.0, 7.0, 7.5])
    result = iv.mean_interval(x, clusters=["a", "b", "a", "c", "c"])
    deviations = x - x.mean()
    sums = np.array([deviations[0] + deviations[2], deviations[1], deviations[3] + deviations[4]])
    assert result.se == pytest.approx(math.sqrt(3 / 2 * (sums**2).sum()) / 5)


@pytest.mark.parametrize("bad", [[], [1.0, math.nan], [[1.0, 2.0]]])
def test_intervals_refuse_empty_non_finite_and_misshapen_values(bad):
    with pytest.raises(ValueError, match="vector of finite numbers"):
        iv.mean_interval(bad)


def test_one_item_has_an_estimate_but_no_bounds():
    result = iv.mean_interval([3.0])
    assert result.estimate == 3.0
    assert math.isnan(result.low) and math.isnan(result.se)


def test_two_seeds_use_one_degree_of_freedom():
    result = iv.seed_interval([1.0, 2.0])
    assert result.df == 1
    assert result.half_width == pytest.approx(stats.t.ppf(0.975, 1) * 0.5)


def test_one_seed_has_no_seed_interval():
    assert math.isnan(iv.seed_interval([0.5]).low)


def test_crossed_interval_with_one_seed_is_the_item_interval_and_says_so():
    x = np.random.default_rng(3).normal(size=30)
    assert iv.crossed_interval(x[None, :]) == iv.mean_interval(x)


def test_crossed_interval_with_identical_seeds_is_the_item_interval():
    x = np.random.default_rng(4).normal(size=30)
    both = iv.crossed_interval(np.stack([x, x]))
    assert (both.low, both.high) == pytest.approx((iv.mean_interval(x).low, iv.mean_interval(x).high))
    assert both.kind == "items+seeds"


def test_crossed_interval_with_identical_items_is_the_seed_interval():
    table = np.repeat(np.array([[1.0], [2.0], [4.0]]), 20, axis=1)
    both, seeds = iv.crossed_interval(table), iv.seed_interval([1.0, 2.0, 4.0])
    assert (both.low, both.high, both.df) == pytest.approx((seeds.low, seeds.high, 2))


def test_variance_parts_add_up_to_the_exact_anova_for_unclustered_items():
    table = np.random.default_rng(5).normal(size=(3, 11)) + np.arange(3)[:, None]
    parts = iv.variance_parts(table, *iv.cluster_codes(None, 11))
    residual = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    assert parts.rest == pytest.approx((residual**2).sum() / (2 * 10) / 33)
    assert parts.items == pytest.approx(table.mean(0).var(ddof=1) / 11)
    assert parts.seeds == pytest.approx(table.mean(1).var(ddof=1) / 3)


@pytest.mark.parametrize(("seed_sd", "least"), [(0.0, 0.94), (0.03, 0.93), (0.15, 0.86)])
def test_crossed_interval_covers_the_truth_with_two_seeds(seed_sd, least):
    rng = np.random.default_rng(6)
    hits = 0
    for _ in range(600):
        table = seed_sd * rng.normal(size=(2, 1)) + 0.2 * rng.normal(size=(1, 60)) + 0.3 * rng.normal(size=(2, 60))
        result = iv.crossed_interval(table)
        hits += result.low <= 0 <= result.high
    assert least <= hits / 600 <= 0.995


def test_clustered_interval_covers_where_the_naive_one_does_not():
    rng = np.random.default_rng(7)
    labels = np.repeat(np.arange(20), 5)
    hits = {"clustered": 0, "naive": 0}
    for _ in range(500):
        x = np.repeat(rng.normal(size=20), 5) + 0.5 * rng.normal(size=100)
        for name, clusters in (("clustered", labels), ("naive", None)):
            result = iv.mean_interval(x, clusters=clusters)
            hits[name] += result.low <= 0 <= result.high
    assert 0.92 <= hits["clustered"] / 500 <= 0.98
    assert hits["naive"] / 500 < 0.75


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (3, 10), (10, 10), (57, 100)])
def test_wilson_interval_equals_scipy(successes, n):
    theirs = stats.binomtest(successes, n).proportion_ci(method="wilson")
    ours = iv.wilson_interval(successes, n)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_a_level_in_percent_is_refused():
    for interval in (lambda: iv.wilson_interval(3, 10, level=95), lambda: iv.mean_interval([1.0, 2.0], level=95)):
        with pytest.raises(ValueError, match="level must be in"):
            interval()


def test_wilson_interval_refuses_more_successes_than_trials():
    with pytest.raises(ValueError, match="successes"):
        iv.wilson_interval(5, 4)


tables = hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=8), elements=finite)


@settings(max_examples=80, deadline=None)
@given(tables, st.floats(-100, 100), st.floats(0.125, 8))
def test_crossed_interval_moves_and_scales_with_the_scores(table, shift, scale):
    plain, moved = iv.crossed_interval(table), iv.crossed_interval(scale * table + shift)
    tolerance = 1e-6 * (1 + np.abs(table).max()) * scale + 1e-9 * abs(shift)
    assert moved.estimate == pytest.approx(scale * plain.estimate + shift, abs=tolerance)
    if math.isnan(plain.se):
        assert math.isnan(moved.se)
    else:
        assert moved.se == pytest.approx(scale * plain.se, abs=tolerance)
        assert plain.low <= plain.estimate <= plain.high


@settings(max_examples=60, deadline=None)
@given(tables, st.randoms(use_true_random=False))
def test_crossed_interval_ignores_the_order_of_seeds_and_items(table, random):
    rows, columns = list(range(table.shape[0])), list(range(table.shape[1]))
    random.shuffle(rows)
    random.shuffle(columns)
    plain, mixed = iv.crossed_interval(table), iv.crossed_interval(table[np.ix_(rows, columns)])
    assert mixed.estimate == pytest.approx(plain.estimate, abs=1e-6)
    assert mixed.se == pytest.approx(plain.se, abs=1e-5, nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_interval_stays_inside_the_unit_interval_and_holds_its_estimate(n, share, level):
    result = iv.wilson_interval(share * n, n, level=level)
    assert 0 <= result.low <= result.estimate + 1e-12
    assert result.estimate - 1e-12 <= result.high <= 1
