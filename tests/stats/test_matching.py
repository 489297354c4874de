"""Differences on equally long answers, in worlds where length does all, nothing, or part of it."""

import math

import numpy as np
import pytest

from preflab.stats.intervals import crossed_interval
from preflab.stats.matching import matched_difference


def world(rng, *, per_token=0.0, better=0.0, longer=5, n_seeds=4, n_items=400):
    """Return scores and lengths of two methods; the first writes up to `longer` tokens more, or as many."""
    lengths = rng.integers(10, 40, (n_seeds, n_items)).astype(float)
    more = rng.choice([0, longer], size=lengths.shape)
    base = 0.5 + 0.1 * rng.standard_normal((1, n_items))
    noise = 0.02 * rng.standard_normal((2, n_seeds, n_items))
    first = base + better + per_token * (lengths + more) + noise[0]
    second = base + per_token * lengths + noise[1]
    return first, second, lengths + more, lengths


def test_a_method_that_is_better_only_by_its_length_is_level_on_equally_long_answers():
    first, second, la, lb = world(np.random.default_rng(0), per_token=0.01)
    found = matched_difference(first, second, la, lb, tolerance=0.0)
    assert np.mean(first - second) > 0.02
    assert found.difference.low < 0 < found.difference.high
    assert abs(found.difference.estimate) < 0.003
    assert found.share == pytest.approx(0.5, abs=0.05)


def test_a_method_that_is_better_at_every_length_stays_so():
    found = matched_difference(*world(np.random.default_rng(1), per_token=0.01, better=0.05), tolerance=0.0)
    assert found.difference.estimate == pytest.approx(0.05, abs=0.005)
    assert found.difference.low > 0.03


def test_where_all_lengths_are_equal_it_is_the_plain_difference_with_about_its_interval():
    first, second, la, lb = world(np.random.default_rng(2), better=0.05, longer=0)
    found, plain = matched_difference(first, second, la, lb).difference, crossed_interval(first - second)
    assert found.estimate == pytest.approx(np.mean(first - second))
    assert found.half_width == pytest.approx(plain.half_width, rel=0.6)


def test_methods_in_the_other_order_give_the_other_sign():
    first, second, la, lb = world(np.random.default_rng(3), better=0.02)
    there, back = matched_difference(first, second, la, lb), matched_difference(second, first, lb, la)
    assert there.difference.estimate == pytest.approx(-back.difference.estimate)
    assert there.difference.low == pytest.approx(-back.difference.high)


def test_nothing_in_common_is_said_and_not_guessed():
    scores, lengths = np.zeros((2, 5)), np.full((2, 5), 10.0)
    found = matched_difference(scores, scores, lengths, lengths + 20)
    assert (found.share, found.n_items) == (0.0, 0) and math.isnan(found.difference.estimate)


def test_one_token_is_no_difference_and_clusters_are_drawn_together():
    scores = np.repeat(np.random.default_rng(4).normal(size=(3, 20)), 5, axis=1)
    lengths = np.full(scores.shape, 3.0)
    labels = np.repeat(np.arange(20), 5)
    found = matched_difference(scores, np.zeros_like(scores), lengths, lengths + 1, clusters=labels)
    assert (found.share, found.n_items) == (1.0, 20)
    alone = matched_difference(scores, np.zeros_like(scores), lengths, lengths)
    assert found.difference.half_width > 1.5 * alone.difference.half_width


def test_shapes_and_tolerances_are_checked():
    with pytest.raises(ValueError, match="one shape"):
        matched_difference(np.zeros((1, 2)), np.zeros((1, 2)), np.zeros((1, 3)), np.zeros((1, 3)))


@pytest.mark.parametrize(("matches", "known"), [(19, False), (20, True)])
def test_too_few_matches_have_no_bounds(matches, known):
    scores = np.random.default_rng(5).normal(size=(2, 1, 100))
    lengths = np.full((1, 100), 50.0)
    other = np.where(np.arange(100) < matches, 50.0, 90.0)[None]
    found = matched_difference(*scores, lengths, other)
    assert found.n_items == matches and math.isfinite(found.difference.low) == known
