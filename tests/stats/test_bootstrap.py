import math

import numpy as np
import pytest
from scipy import stats

from preflab.stats import bootstrap as bs
from preflab.stats.comparisons import two_sided_p
from preflab.stats.intervals import crossed_interval, seed_interval


def test_bootstrap_interval_agrees_with_scipy_bca():
    x = np.random.default_rng(8).exponential(size=60)
    ours = bs.bootstrap_interval(x, n_resamples=6000)
    theirs = stats.bootstrap((x,), np.mean, n_resamples=6000, method="BCa", rng=np.random.default_rng(0))
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.02)
    assert ours.se == pytest.approx(theirs.standard_error, rel=0.05)


def test_bootstrap_interval_is_repeatable_and_respects_clusters():
    x, labels = np.repeat(np.random.default_rng(9).normal(size=20), 5), np.repeat(np.arange(20), 5)
    first = bs.bootstrap_interval(x, clusters=labels, seed=3)
    assert first == bs.bootstrap_interval(x, clusters=labels, seed=3)
    assert first.se > 1.8 * bs.bootstrap_interval(x, seed=3).se


def test_bootstrap_interval_of_paired_differences_agrees_with_scipy():
    rng = np.random.default_rng(10)
    first = rng.exponential(size=50)
    second = 0.5 * first + rng.exponential(size=50)
    ours = bs.bootstrap_interval(first - second, n_resamples=6000)
    theirs = stats.bootstrap(
        (first, second), lambda a, b, axis: a.mean(axis) - b.mean(axis), paired=True, vectorized=True, method="BCa",
        n_resamples=6000, rng=np.random.default_rng(0),
    )  # fmt: skip
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.03)


@pytest.mark.parametrize(
    ("values", "bounds"), [([2.0], (math.nan, math.nan)), ([3.0] * 5, (3.0, 3.0)), ([1.0] * 9, (1.0, 1.0))]
)
def test_bootstrap_interval_of_one_or_of_equal_values(values, bounds):
    result = bs.bootstrap_interval(values)
    assert result.estimate == values[0]
    assert (result.low, result.high) == pytest.approx(bounds, nan_ok=True)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_a_level_out_of_range_is_refused(level):
    for interval in (bs.bootstrap_interval, lambda x, level: bs.hierarchical_interval([x] * 12, level=level)):
        with pytest.raises(ValueError, match="level must be in"):
            interval([1.0, 2.0, 3.0], level=level)


def test_below_ten_seeds_the_hierarchical_interval_is_that_of_seed_means_and_says_so():
    table = np.random.default_rng(11).normal(size=(9, 40))
    result = bs.hierarchical_interval(table)
    assert result == seed_interval(table.mean(axis=1))
    assert result.kind == "seeds"


def test_hierarchical_interval_of_seeds_that_agree_is_about_that_of_the_items():
    items = np.random.default_rng(12).normal(size=200)
    result = bs.hierarchical_interval(np.tile(items, (12, 1)), n_resamples=4000)
    assert (result.kind, result.n, result.df) == ("bootstrap", 12, 11)
    assert result.se == pytest.approx(items.std(ddof=1) / math.sqrt(200), rel=0.05)


def test_hierarchical_interval_of_items_that_agree_is_about_that_of_the_seeds():
    means = np.random.default_rng(13).normal(size=12)
    result, exact = (
        bs.hierarchical_interval(np.repeat(means[:, None], 7, axis=1), n_resamples=6000),
        seed_interval(means),
    )
    assert (result.low, result.high) == pytest.approx((exact.low, exact.high), abs=0.15 * exact.half_width)


def test_hierarchical_and_crossed_interval_agree_where_seeds_and_items_add():
    rng = np.random.default_rng(14)
    table = 0.1 * rng.normal(size=(20, 1)) + rng.normal(size=(1, 150))
    result, crossed = bs.hierarchical_interval(table, n_resamples=4000), crossed_interval(table)
    assert result.se == pytest.approx(crossed.se, rel=0.05)


def test_hierarchical_interval_respects_clusters_and_is_repeatable():
    table = np.repeat(np.random.default_rng(15).normal(size=(12, 30)), 4, axis=1)
    labels = np.repeat(np.arange(30), 4)
    result = bs.hierarchical_interval(table, clusters=labels)
    assert result == bs.hierarchical_interval(table, clusters=labels)
    assert result.se > 1.2 * bs.hierarchical_interval(table).se


def test_units_drawn_in_blocks_are_those_drawn_at_once(monkeypatch):
    units = np.random.default_rng(16).normal(size=(7, 2))
    at_once = bs.resampled_sums(units, 100, np.random.default_rng(1))
    monkeypatch.setattr(bs, "_BLOCK", 7 * 9)
    assert np.allclose(bs.resampled_sums(units, 100, np.random.default_rng(1)), at_once, rtol=1e-12)
    assert at_once.mean(axis=0) == pytest.approx(units.sum(axis=0), abs=1.0)


def test_p_value_and_hierarchical_interval_exclude_the_same_null():
    table = np.random.default_rng(17).normal(0.5, 1.0, size=(12, 60))
    result = bs.hierarchical_interval(table)
    assert result.low > 0 and two_sided_p(result) < 0.05
