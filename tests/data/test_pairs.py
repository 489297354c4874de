import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preflab.core.errors import ConfigError
from preflab.core.seeds import uniform
from preflab.data.pairs import (
    LEFT_OUT,
    REASONS,
    Answer,
    CurationSettings,
    Ranges,
    best_worst,
    common_prefix,
    curate,
    rejection_sample,
)


def stream(seed):
    return lambda name, n: uniform(n, seed, name)


def answers(*scores, origin="model", **more):
    return [Answer(f"{origin} {i}", score, origin, **more) for i, score in enumerate(scores)]


CURATIONS = [
    CurationSettings(name="best-worst", ranges=Ranges(max_gap=0.6)),
    CurationSettings(name="threshold", high=0.7, low=0.4),
    CurationSettings(name="random-gap", ranges=Ranges(min_gap=0.2, max_gap=0.5)),
    CurationSettings(name="rejection", beta=0.3, accepted=4, ranges=Ranges(min_gap=0.1)),
    CurationSettings(name="siblings", ranges=Ranges(min_prefix=2)),
]
scored = st.lists(
    st.builds(
        lambda score, tokens, path: (score / 10, tuple(tokens), tuple(path)),
        st.integers(0, 10),
        st.lists(st.integers(0, 1), min_size=1, max_size=6),
        st.lists(st.integers(0, 2), min_size=1, max_size=3),
    ),
    max_size=8,
)


@pytest.mark.parametrize("settings", CURATIONS, ids=lambda s: s.name)
@given(found=scored, seed=st.integers(0, 99))
def test_pairs_are_better_against_worse_within_the_ranges(settings, found, seed):
    pool = [Answer(str(i), score, "model", tokens, path) for i, (score, tokens, path) in enumerate(found)]
    result = curate(pool, pool, settings, stream(seed))
    for pair in result.pairs:
        assert pair.gap > 0 and settings.ranges.hold(pair)
        assert pair.shared_prefix == common_prefix(pair.chosen.tokens, pair.rejected.tokens)
    if settings.name == "threshold":
        assert all(p.chosen.score >= 0.7 and p.rejected.score <= 0.4 for p in result.pairs)
    if settings.name == "siblings":
        assert all(p.chosen.path[0] == p.rejected.path[0] for p in result.pairs)
    # Nothing goes without a word: a pair, a reason, or pairs counted as left out.
    assert result.pairs or result.reason in REASONS or sum(result.left_out.values())
    assert set(result.left_out) <= set(LEFT_OUT)
    assert curate(pool, pool, settings, stream(seed)) == result


def test_best_worst_takes_the_extremes_and_counts_ties():
    pool = answers(0.2, 0.9, 0.9, 0.5, 0.1)
    found = {curate(pool, pool, CurationSettings(name="best-worst"), stream(seed)).pairs[0] for seed in range(20)}
    assert {(pair.chosen.score, pair.rejected.score) for pair in found} == {(0.9, 0.1)}
    assert {pair.chosen.text for pair in found} == {"model 1", "model 2"}
    assert curate(pool, pool, CurationSettings(name="best-worst"), stream(0)).ties == 1


def test_equal_scores_are_decided_by_the_order_given():
    pool = answers(1.0, 1.0, 0.0, 0.0)
    pair = best_worst(pool, pool, lambda answer: answer.text)
    assert (pair.chosen.text, pair.rejected.text) == ("model 1", "model 2")


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        ([], answers(0.1, 0.2), "too_few_answers"),
        (answers(0.1), answers(0.1), "too_few_answers"),
        (answers(0.5), answers(0.5, origin="data"), "equal_scores"),
        (answers(0.2, 0.3), answers(0.3, 0.9, origin="data"), "none_better"),
        (answers(0.9), answers(0.1, origin="data"), "out_of_range"),
    ],
)
def test_a_prompt_without_a_pair_says_why(chosen, rejected, reason):
    settings = CurationSettings(name="best-worst", ranges=Ranges(max_gap=0.5))
    assert curate(chosen, rejected, settings, stream(0)).reason == reason


def test_siblings_take_the_largest_gap_and_then_the_longest_prefix():
    pool = [
        Answer("a", 1.0, "model", (1, 2, 3), (1, 2)),
        Answer("b", 0.0, "model", (1, 5, 6), (1, 3)),
        Answer("c", 0.0, "model", (1, 2, 7), (1, 4)),
        Answer("d", -1.0, "model", (9, 9, 9), (5,)),
    ]
    (pair,) = curate(pool, pool, CurationSettings(name="siblings"), stream(0)).pairs
    assert (pair.chosen.text, pair.rejected.text, pair.shared_prefix) == ("a", "c", 2)


def test_rejection_sampling_accepts_by_the_exponential_of_the_score():
    """Of two candidates the worse, asked first, is the first accepted with chance exp(-gap / beta)."""
    pool, n, beta = answers(0.0, 1.0), 4000, 0.8
    first = [rejection_sample(pool, n=1, beta=beta, draw=stream(seed))[0].score == 0.0 for seed in range(n)]
    chance = math.exp(-1 / beta)
    assert abs(np.mean(first) - chance) < 4 * math.sqrt(chance * (1 - chance) / n)


def test_rejection_sampling_at_low_temperature_takes_the_best_ones_first():
    pool = answers(0.1, 0.9, 0.5, 0.7)
    drawn = rejection_sample(pool, n=3, beta=1e-6, draw=stream(0))
    assert [answer.score for answer in drawn] == [0.9, 0.7, 0.5]
    assert len(rejection_sample(pool, n=9, beta=1.0, draw=stream(0))) == 4


def test_rejection_counts_what_it_drew_together_with_equal_scores():
    pool = answers(0.5, 0.5, 0.5, 0.9)
    settings = CurationSettings(name="rejection", beta=1e9, accepted=4)
    result = curate(pool, pool, settings, stream(0))
    assert (len(result.pairs), result.left_out["tied"]) == (1, 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "best-worst", "beta": 1.0}, "--beta: does not belong to the curation best-worst"),
        ({"name": "threshold", "high": 1.0}, "--curation threshold: needs --low"),
        ({"name": "threshold", "high": 0.2, "low": 0.2}, "--high: must be above --low"),
        ({"name": "rejection", "beta": 0.0, "accepted": 2}, r"--beta: must be in \(0, inf\)"),
        ({"name": "rejection", "beta": 1.0, "accepted": 3}, "--accepted: must be even"),
    ],
)
def test_settings_that_mean_nothing_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        CurationSettings(**given)


def test_an_empty_range_is_refused():
    with pytest.raises(ConfigError, match=r"--min-gap, --max-gap: must be 0 <= min <= max; got 0\.5 and 0\.2"):
        Ranges(min_gap=0.5, max_gap=0.2)
