import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats import contingency_tables, proportion

from preflab.stats import proportions as pr
from preflab.stats.intervals import wilson_interval


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (5, 0), (6, 0), (3, 9), (40, 25)])
def test_mcnemar_equals_statsmodels(won, lost):
    theirs = contingency_tables.mcnemar([[7, won], [lost, 2]], exact=True)
    assert pr.mcnemar_p(won, lost) == pytest.approx(theirs.pvalue if won + lost else 1.0)


@pytest.mark.parametrize(("successes", "n", "level"), [(0, 20, 0.95), (20, 20, 0.95), (7, 31, 0.99), (812, 1319, 0.9)])
def test_wilson_equals_statsmodels(successes, n, level):
    ours = wilson_interval(successes, n, level=level)
    theirs = proportion.proportion_confint(successes, n, alpha=1 - level, method="wilson")
    assert (ours.low, ours.high) == pytest.approx(theirs, abs=1e-12)


def test_counts_and_share_of_discordant_items_are_those_of_the_answers():
    rng = np.random.default_rng(1)
    first = rng.random(400) < 0.6
    second = np.where(rng.random(400) < 0.7, first, rng.random(400) < 0.5)
    won, lost = pr.discordant_counts(first, second)
    assert won - lost == first.sum() - second.sum()
    assert won + lost == (first != second).sum()
    correlation = np.corrcoef(first, second)[0, 1]
    assert pr.expected_discordance(first.mean(), second.mean(), correlation) == pytest.approx((won + lost) / 400)


@pytest.mark.parametrize("wrong", [([1, 0], [1]), ([0.5], [1]), ([[1]], [[0]])])
def test_answers_that_are_not_right_or_wrong_are_refused(wrong):
    with pytest.raises(ValueError, match="0 or 1"):
        pr.discordant_counts(*wrong)


def test_equal_models_do_not_differ_and_opposite_ones_always_do():
    assert pr.expected_discordance(0.3, 0.3, 1.0) == pytest.approx(0.0)
    assert pr.expected_discordance(0.5, 0.5, -1.0) == pytest.approx(1.0)
    assert pr.expected_discordance(0.3, 0.6, 0.0) == pytest.approx(0.3 * 0.4 + 0.7 * 0.6)


@pytest.mark.parametrize("wrong", [(0.1, 0.9, 0.9), (0.5, 0.5, 1.5), (1.5, 0.5, 0.0), (-0.1, 0.5, 0.0)])
def test_correlations_that_two_shares_cannot_have_are_refused(wrong):
    with pytest.raises(ValueError, match=r"cannot have|in \[0, 1\]"):
        pr.expected_discordance(*wrong)


@given(st.integers(0, 300), st.sampled_from([0.2, 0.05, 0.01, 1e-5]))
def test_critical_counts_are_the_last_that_mcnemar_finds(m, alpha):
    k = int(pr._critical(np.array([m]), alpha)[0])
    assert k < 0 or 2 * stats.binom.cdf(k, m, 0.5) <= alpha * (1 + 1e-9)
    assert 2 * stats.binom.cdf(k + 1, m, 0.5) > alpha


def test_detectable_difference_of_a_large_benchmark_is_near_the_normal_approximation():
    # (z_{0.975} + z_{0.8}) sqrt(discordant / n), and a little more because the test is exact.
    approximate = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * math.sqrt(0.2 / 10042)
    assert 1.0 < pr.detectable_difference(10042, 0.2) / approximate < 1.05


@pytest.mark.parametrize(("won", "lost", "n"), [(0, 0, 1), (0, 0, 50), (50, 0, 50), (3, 2, 9)])
def test_paired_interval_holds_its_estimate_and_is_never_a_point(won, lost, n):
    result = pr.paired_interval(won, lost, n)
    assert -1 <= result.low <= result.estimate <= result.high <= 1
    assert result.low < result.high
