import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from preflab.stats import aggregates as ag

SCORES = np.random.default_rng(0).gamma(2.0, size=(5, 6))


@settings(deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30))
def test_interquartile_mean_equals_scipy_trimmed_mean(values):
    assert ag.interquartile_mean(values) == pytest.approx(stats.trim_mean(values, 0.25), abs=1e-9)


def test_one_wild_run_does_not_move_the_interquartile_mean():
    values = [0.1, 0.2, 0.3, 0.4]
    assert ag.interquartile_mean([*values[:3], 1e9]) == ag.interquartile_mean(values) == pytest.approx(0.25)


def test_interval_of_a_mean_has_the_standard_error_of_stratified_sampling(monkeypatch):
    monkeypatch.setattr(ag, "_middle", lambda values: values.mean(axis=-1))
    table = SCORES[:3]
    expected = math.sqrt((table.var(axis=0, ddof=1) / 3).sum()) / 6
    assert ag.interquartile_interval(table, n_resamples=8000).se == pytest.approx(expected, rel=0.03)


def test_differences_between_tasks_do_not_widen_the_interval():
    far = SCORES - SCORES.mean(axis=0) + np.array([0, 0, 0, 0, 100, -100])
    near = ag.interquartile_interval(SCORES - SCORES.mean(axis=0))
    assert ag.interquartile_interval(far).se < 2 * near.se


def test_profile_is_the_share_above_each_threshold_and_falls():
    profile = ag.performance_profile(SCORES, [-1.0, 0.5, 1.0, 2.0, 1e3])
    estimates = [share.estimate for share in profile.shares]
    assert estimates == pytest.approx([(each < SCORES).mean() for each in profile.thresholds])
    assert estimates[0] == 1.0 and estimates[-1] == 0.0 and sorted(estimates, reverse=True) == estimates
    assert all(share.low <= share.estimate <= share.high for share in profile.shares)
    # A threshold is not below itself.
    assert ag.performance_profile([[1.0], [2.0]], [1.0]).shares[0].estimate == 0.5


def test_probability_of_improvement_is_the_mean_mann_whitney_statistic():
    other = np.random.default_rng(1).gamma(2.5, size=(4, 6))
    expected = [stats.mannwhitneyu(SCORES[:, k], other[:, k]).statistic / 20 for k in range(6)]
    forward, backward = ag.probability_of_improvement(SCORES, other), ag.probability_of_improvement(other, SCORES)
    assert forward.estimate == pytest.approx(np.mean(expected))
    assert forward.estimate + backward.estimate == pytest.approx(1.0)
    assert forward.n == 4


def test_equal_scores_improve_on_each_other_half_of_the_time():
    result = ag.probability_of_improvement(np.ones((3, 2)), np.ones((2, 2)))
    assert (result.estimate, result.low, result.high) == (0.5, 0.5, 0.5)


def test_a_method_that_always_wins_has_probability_one():
    assert ag.probability_of_improvement(SCORES + 100, SCORES).low == 1.0


@pytest.mark.parametrize(
    "interval",
    [
        lambda table: ag.interquartile_interval(table),
        lambda table: ag.performance_profile(table, [0.5]).shares[0],
        lambda table: ag.probability_of_improvement(table, SCORES),
    ],
)
def test_a_single_run_has_an_estimate_without_bounds(interval):
    result = interval(SCORES[:1])
    assert math.isfinite(result.estimate) and math.isnan(result.low) and math.isnan(result.se)


def test_blocks_of_bounded_memory_change_nothing(monkeypatch):
    whole = ag.interquartile_interval(SCORES), ag.performance_profile(SCORES, [1.0, 2.0])
    monkeypatch.setattr(ag, "_BLOCK", SCORES.size * 7)
    assert (ag.interquartile_interval(SCORES), ag.performance_profile(SCORES, [1.0, 2.0])) == whole


@pytest.mark.parametrize("bad", [np.empty((0, 3)), [1.0, 2.0], [[math.nan]]])
def test_tables_that_are_none_are_refused(bad):
    with pytest.raises(ValueError, match="finite numbers"):
        ag.interquartile_interval(bad)


def test_methods_on_other_tasks_and_levels_in_percent_are_refused():
    with pytest.raises(ValueError, match="same tasks"):
        ag.probability_of_improvement(SCORES, SCORES[:, :3])
    with pytest.raises(ValueError, match="level must be in"):
        ag.interquartile_interval(SCORES, level=95)
