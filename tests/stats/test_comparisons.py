import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats import multitest, power

from preflab.stats import comparisons as cmp


def test_one_seed_comparison_equals_scipy_paired_t_test():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=40), rng.normal(0.2, 1.0, size=40)
    ours, theirs = cmp.paired_comparison(a[None], b[None]), stats.ttest_rel(a, b)
    assert ours.p == pytest.approx(theirs.pvalue)
    assert ours.p_items == pytest.approx(theirs.pvalue)
    assert (ours.difference.low, ours.difference.high) == pytest.approx(tuple(theirs.confidence_interval()))
    assert ours.correlation == pytest.approx(np.corrcoef(a, b)[0, 1])


def test_p_items_is_the_paired_t_test_of_differences_averaged_over_seeds():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(3, 25)), rng.normal(size=(3, 25))
    assert cmp.paired_comparison(a, b).p_items == pytest.approx(stats.ttest_rel(a.mean(0), b.mean(0)).pvalue)


def test_seeds_that_disagree_take_the_significance_away():
    items = np.random.default_rng(3).normal(0.0, 0.05, size=200)
    better_then_worse = np.stack([items + 0.3, items - 0.1])
    result = cmp.paired_comparison(better_then_worse, np.zeros((2, 200)))
    assert result.p_items < 1e-6
    assert result.p > 0.2


def test_equal_methods_have_difference_zero_and_p_one():
    scores = np.random.default_rng(4).normal(size=(2, 10))
    result = cmp.paired_comparison(scores, scores)
    assert (result.difference.estimate, result.p, result.minimum_detectable) == (0.0, 1.0, 0.0)


def test_a_single_item_has_no_p_value():
    assert math.isnan(cmp.paired_comparison([[1.0]], [[0.0]]).p)


def test_comparison_refuses_tables_of_different_shapes():
    with pytest.raises(ValueError, match="one shape"):
        cmp.paired_comparison(np.zeros((2, 5)), np.zeros((1, 5)))


def test_paired_test_keeps_its_error_rate_when_methods_are_equal():
    rng = np.random.default_rng(5)
    rejected = 0
    for _ in range(600):
        difference = 0.05 * rng.normal(size=(3, 1)) + rng.normal(0, 0.3, size=(3, 50))
        rejected += cmp.paired_comparison(difference, np.zeros((3, 50))).p < 0.05
    assert rejected / 600 < 0.075


def test_exact_sign_flip_equals_scipy_permutation_test():
    x = np.array([0.4, -0.1, 0.9, 0.3, 0.2, -0.6, 1.1])
    theirs = stats.permutation_test((x,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert cmp.sign_flip_p(x)[0] == pytest.approx(theirs.pvalue)


def test_random_sign_flip_agrees_with_the_t_test_and_handles_many_comparisons():
    rng = np.random.default_rng(6)
    table = rng.normal([[0.0], [0.2], [0.6]], 1.0, size=(3, 80))
    expected = [stats.ttest_1samp(row, 0).pvalue for row in table]
    assert cmp.sign_flip_p(table) == pytest.approx(expected, abs=0.02)


def test_sign_flip_counts_equal_sums_whatever_the_order_of_addition():
    assert cmp.sign_flip_p([0.1, 0.2, 0.3])[0] == pytest.approx(2 / 8)


def test_sign_flip_flips_clusters_together():
    assert cmp.sign_flip_p([1.0, 1.0, 1.0, 1.0], clusters=[0, 0, 1, 1])[0] == 0.5
    assert cmp.sign_flip_p([1.0, 1.0, 1.0, 1.0])[0] == pytest.approx(2 / 16)


def test_signs_drawn_in_blocks_are_those_drawn_at_once(monkeypatch):
    x = np.random.default_rng(9).normal(0.3, 1.0, size=(2, 40))
    at_once = cmp.sign_flip_p(x)
    monkeypatch.setattr(cmp, "_BLOCK", 40 * 70)
    assert (cmp.sign_flip_p(x) == at_once).all()


@pytest.mark.parametrize("n", [1, 5, 12, 13, 50])
def test_sign_flip_of_no_difference_at_all_is_one(n):
    assert cmp.sign_flip_p(np.zeros(n))[0] == 1.0


@pytest.mark.parametrize("bad", [[], [1.0, math.nan], np.zeros((2, 2, 2))])
def test_sign_flip_refuses_what_are_no_differences(bad):
    with pytest.raises(ValueError, match="finite numbers"):
        cmp.sign_flip_p(bad)


def test_holm_follows_the_published_example():
    # Holm 1979 by hand: 0.01*4, 0.02*3, max(0.06, 0.03*2), 0.04*1 raised to 0.06.
    assert cmp.holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


def test_holm_equals_statsmodels():
    p = np.random.default_rng(8).random(20) ** 3
    assert cmp.holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1])


def test_holm_leaves_missing_tests_out_of_the_count():
    adjusted = cmp.holm([0.01, math.nan, 0.02])
    assert adjusted[[0, 2]] == pytest.approx([0.02, 0.02])
    assert math.isnan(adjusted[1])
    assert len(cmp.holm([])) == 0


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_the_plain_and_the_bonferroni_p_values_and_keeps_their_order(p):
    adjusted = cmp.holm(p)
    assert (adjusted >= np.array(p) - 1e-15).all()
    assert (adjusted <= np.minimum(1, np.array(p) * len(p)) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= -1e-15).all()


@pytest.mark.parametrize("df", [1.0, 2.4, 9.0, 199.0, math.inf])
def test_minimum_detectable_difference_is_found_with_eighty_percent_power(df):
    mdd = cmp.minimum_detectable_difference(0.5, df)
    if math.isinf(df):
        assert mdd == pytest.approx(0.5 * (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)))
    else:
        assert stats.nct.sf(stats.t.ppf(0.975, df), df, mdd / 0.5) == pytest.approx(0.8, abs=1e-6)


def test_minimum_detectable_difference_equals_statsmodels():
    ours = cmp.minimum_detectable_difference(1 / math.sqrt(30), 29)
    theirs = power.TTestPower().solve_power(nobs=30, alpha=0.05, power=0.8, alternative="two-sided")
    # statsmodels also counts significant results of the wrong sign.
    assert ours == pytest.approx(theirs, abs=1e-4)


def test_minimum_detectable_difference_is_found_four_times_in_five_in_simulation():
    rng, n, sd = np.random.default_rng(7), 40, 0.3
    mdd = cmp.minimum_detectable_difference(sd / math.sqrt(n), n - 1)
    found = stats.ttest_1samp(rng.normal(mdd, sd, size=(4000, n)), 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.025)


def test_items_needed_grow_with_the_square_of_the_wanted_precision():
    assert cmp.items_needed(100, 0.06, 0.03) == 400
    with pytest.raises(ValueError, match="finite differences"):
        cmp.items_needed(100, 0.06, 0.0)


def test_holm_counts_questions_that_the_data_chose_not_to_ask():
    p = [0.004, 0.03]
    assert cmp.holm(p, family=6) == pytest.approx(cmp.holm([*p, 1, 1, 1, 1])[:2])


def test_a_difference_without_spread_is_only_as_sure_as_its_number_of_items():
    for n, p in ((3, 0.25), (11, 2.0**-10)):
        found = cmp.paired_comparison(np.ones((1, n)), np.zeros((1, n)))
        assert found.p == p == cmp.sign_flip_p(np.ones((1, n)))[0]
