"""The shared tensor operations: stable where the plain formula is not, and strict about shapes."""

import math

import pytest
import torch

from preflab.methods import Logps, Moments, RankedValues, TokenLogps
from preflab.methods._ops import (
    aligned,
    aligned_lists,
    aligned_tokens,
    bounded_exp,
    ends,
    log1mexp,
    log_odds,
    log_softmax_per_prompt,
    moving_average,
    per_prompt,
    running_mean,
    standardised,
)


@pytest.mark.parametrize("x", [-1e-12, -1e-6, -0.1, -0.69, -0.70, -3.0, -40.0])
def test_log1mexp_matches_the_series_and_the_plain_formula(x):
    """log(1 - e^x) = log(-x) + x/2 + O(x^2) near 0, and -e^x far from it."""
    found = log1mexp(torch.tensor(x, dtype=torch.float64)).item()
    if x > -1e-3:
        expected = math.log(-x) + x / 2
    elif x < -30:
        expected = -math.exp(x)
    else:
        expected = math.log(1 - math.exp(x))
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log1mexp_is_finite_with_finite_gradient_everywhere(dtype):
    x = torch.tensor([0.0, -1e-30, -1e-7, -0.6931472, -1.0, -1e4], dtype=dtype, requires_grad=True)
    found = log1mexp(x)
    (gradient,) = torch.autograd.grad(found.sum(), x)
    assert found.isfinite().all() and gradient.isfinite().all()


def test_log1mexp_keeps_nan():
    assert log1mexp(torch.tensor([math.nan])).isnan().all()


def test_log_odds_of_one_half_is_zero():
    assert log_odds(torch.tensor([math.log(0.5)], dtype=torch.float64)).item() == pytest.approx(0.0, abs=1e-15)


@pytest.mark.parametrize(
    "broken",
    [
        Logps(torch.zeros(3, 1), torch.ones(3)),
        Logps(torch.zeros(3), torch.ones(3, 1)),
        Logps(torch.zeros(1), torch.ones(1)),
        Logps(torch.tensor(0.0), torch.tensor(1.0)),
    ],
)
def test_anything_that_would_broadcast_is_refused(broken):
    with pytest.raises(ValueError, match=r"must all be \[example\] with one number of examples; got shapes"):
        aligned(Logps(torch.zeros(3), torch.ones(3)), broken)


def test_whole_numbers_are_refused():
    with pytest.raises(ValueError, match=r"must be floating; got .*int64"):
        aligned(Logps(torch.zeros(3), torch.ones(3, dtype=torch.int64)))


def test_refusals_of_tokens_and_lists_say_what_must_hold():
    tokens = TokenLogps(torch.zeros(3), torch.ones(2))
    with pytest.raises(ValueError) as raised:
        aligned_tokens(tokens)
    assert str(raised.value) == (
        "log-probs and lengths must all be floating, [token] and [response] with one number of responses, and lengths "
        "must add up to the tokens; got shapes [(3,), (2,)]."
    )
    first, other = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 0, 1])
    lists = [RankedValues(torch.zeros(4), prompt) for prompt in (first, other)]
    with pytest.raises(ValueError) as raised:
        aligned_lists(*lists)
    assert str(raised.value) == (
        "log-probs and lengths must all be [response] with the same responses to the same prompts; got shapes [(4,)]."
    )


def test_sums_and_softmax_go_over_the_responses_to_each_prompt():
    values, prompt = torch.tensor([1.0, 2.0, 3.0, 5.0, -700.0]).double(), torch.tensor([0, 0, 0, 1, 1])
    assert per_prompt(values, prompt).tolist() == [6.0, -695.0]
    assert [place.tolist() for place in ends(prompt)] == [[0, 3], [2, 4]]
    expected = [*values[:3].log_softmax(0).tolist(), *values[3:].log_softmax(0).tolist()]
    found = log_softmax_per_prompt(values, prompt)
    assert found.shape == (5,) and found.tolist() == pytest.approx(expected)


def test_an_exponent_at_its_clamp_is_not_held():
    found, held = bounded_exp(torch.tensor([0.5, 1.0, 1.5]), 1.0)
    assert found.tolist() == pytest.approx([math.exp(0.5), math.e, math.e]) and held.tolist() == [False, False, True]


def test_a_running_mean_counts_every_value_alike():
    first = running_mean(Moments(), torch.tensor([1.0, 2.0]))
    assert first == Moments(mean=1.5, n=2) and running_mean(first, torch.zeros(0)) is first
    assert running_mean(first, torch.tensor([6.0])) == Moments(mean=3.0, n=3)


def test_moving_averages_begin_at_zero_and_one_value_has_no_spread():
    values = torch.tensor([1.0, 5.0], dtype=torch.float64)
    found = moving_average(Moments(mean=1.0, std=2.0, n=4), values, 0.75)
    assert found == pytest.approx((0.75 + 0.25 * 3, 1.5 + 0.25 * math.sqrt(8), 6))
    assert moving_average(Moments(), values[:1], 0.9) == pytest.approx((0.1, 0.0, 1))


def test_values_are_standardised_only_where_a_spread_is_known():
    values = torch.tensor([1.0, 4.0])
    assert standardised(values, Moments(mean=2.0, std=0.5)).tolist() == [-2.0, 4.0]
    assert standardised(values, Moments(mean=2.0, std=1e-4)).tolist() == pytest.approx([-1e4, 2e4])
    assert standardised(values, Moments(mean=2.0, std=9e-5)).tolist() == [0.0, 0.0]
