"""beta_dpo: golden values from the equation, and what the equation says at chosen points."""

import math
import statistics

import pytest
import torch

from preflab.methods import BETA_DPO, Logps, Moments, Pair, Values
from preflab.methods._ops import moving_average
from preflab.methods.beta_dpo import FilteredPair, OneNumberPerPair

# Derived in float64 from the equation, terms without gradient held; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.1, "alpha": 0.6, "rho": 0.2}, "pair 1", 0.506625, -0.08267, 0.08267),
    ({"beta": 0.1, "alpha": 0.6, "rho": 0.2}, "pair 2", 0.694648, -0.0005, 0.0005),
)
NO_PEER = "no package of the index has it; the authors publish code only"


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(BETA_DPO, *golden)


def batch_of(margins, uniform, tracked):
    zero = torch.zeros(len(margins), dtype=torch.float64)
    policy = Pair(Logps(torch.tensor(margins, dtype=torch.float64), zero + 1), Logps(zero, zero + 1))
    noise = OneNumberPerPair(Values(torch.tensor(uniform, dtype=torch.float64)))
    return FilteredPair(policy, Pair(Logps(zero, zero + 1), Logps(zero, zero + 1)), noise, tracked)


def test_beta_follows_the_margin():
    """Margin 2 against a usual margin of 1: beta 0.1 becomes 0.16."""
    # The moving average already holds this batch: 0.9 m + 0.1 * 2 = 1.
    output = BETA_DPO.loss(batch_of([2.0], [0.5], Moments(mean=0.8 / 0.9)), beta=0.1, alpha=0.6, rho=0.2)
    assert output.loss.item() == pytest.approx(math.log1p(math.exp(-0.32)))


def test_beta_is_bounded_below():
    """1 + 0.6 * (-10 - 10) is negative, so beta is 0.001."""
    output = BETA_DPO.loss(batch_of([-10.0], [0.5], Moments(mean=11 / 0.9)), beta=0.1, alpha=0.6, rho=0.0)
    assert output.loss.item() == pytest.approx(math.log1p(math.exp(0.01)))


def test_an_unusual_pair_is_left_out():
    """At equal random numbers the pair furthest from the usual margin goes; the others share its weight."""
    margins = [1.0, 1.2, 0.8, 1.1, 9.0]
    tracked = Moments(mean=1.0, std=1.0, n=50)
    output = BETA_DPO.loss(batch_of(margins, [0.5] * 5, tracked), beta=0.1, alpha=0.0, rho=0.2)
    expected = [math.log1p(math.exp(-0.1 * margin)) * 5 / 4 for margin in margins[:4]]
    assert output.loss.tolist() == pytest.approx([*expected, 0.0])
    (after,) = output.state
    assert after.mean == pytest.approx(0.9 + 0.1 * sum(margins) / 5) and after.n == 55
    assert after.std == pytest.approx(0.9 + 0.1 * statistics.stdev(margins))


def test_pairs_are_drawn_with_their_weights():
    """Of three pairs one is kept: the frequency of each is its share of the weights. (Two would not tell the sign.)"""
    before, margins = Moments(mean=0.5, std=2.0, n=9), [0.0, 3.0, 1.0]
    tracked = moving_average(before, torch.tensor(margins, dtype=torch.float64), 0.9)
    weights = [math.exp(-0.5 * ((margin - tracked.mean) / tracked.std) ** 2) for margin in margins]
    generator = torch.Generator().manual_seed(0)
    kept = torch.zeros(3)
    for _ in range(3000):
        uniform = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
        kept += BETA_DPO.loss(batch_of(margins, uniform, before), beta=0.1, alpha=0.0, rho=0.6).loss > 0
    for count, weight in zip(kept.tolist(), weights, strict=True):
        share = weight / sum(weights)
        assert count / 3000 == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 3000))


def test_the_number_of_kept_pairs_is_not_lost_to_rounding():
    """A share of 0.8 left out of ten pairs leaves two, although 1 - 0.8 is a little less than 0.2 in floats."""
    batch = batch_of([1.0] * 10, [0.05 + 0.09 * i for i in range(10)], Moments(mean=1.0, std=1.0, n=9))
    assert int((BETA_DPO.loss(batch, beta=0.1, alpha=0.0, rho=0.8).loss > 0).sum()) == 2
