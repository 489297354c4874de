"""Accuracy of scores on pairs, by subset."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from preflab.stats.accuracy import mean_of_subsets, subset_accuracies


def test_subsets_ties_and_their_mean():
    margins = [1, 2, -1, 0, 3, 3]
    subsets = ["a", "a", "a", "a", "b", "b"]
    found = subset_accuracies(margins, subsets, list(range(6)))
    assert [(each.subset, each.pairs, each.ties) for each in found] == [("a", 4, 1), ("b", 2, 0)]
    assert found[0].accuracy.estimate == 2.5 / 4 and found[1].accuracy.estimate == 1
    known = binomtest(2, 2).proportion_ci(method="wilson")
    np.testing.assert_allclose([found[1].accuracy.low, found[1].accuracy.high], known)
    mean = mean_of_subsets(found)
    assert mean.estimate == pytest.approx((0.625 + 1) / 2)
    assert mean.se == pytest.approx(math.sqrt(found[0].accuracy.se ** 2 + 0) / 2)


def test_pairs_of_one_prompt_are_one_unit():
    (alone,) = subset_accuracies([1, 1, -1, -1], ["a"] * 4, [1, 2, 3, 4])
    (shared,) = subset_accuracies([1, 1, -1, -1], ["a"] * 4, [1, 1, 2, 2])
    assert (alone.accuracy.kind, shared.accuracy.kind, shared.accuracy.n) == ("wilson", "clusters", 2)
    assert shared.accuracy.half_width > alone.accuracy.half_width


def test_bad_input():
    with pytest.raises(ValueError, match="finite"):
        subset_accuracies([math.nan], ["a"], [1])
    with pytest.raises(ValueError, match="no subset"):
        mean_of_subsets([])
