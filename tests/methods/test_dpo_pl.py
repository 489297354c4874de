"""dpo_pl: golden values from the equation, and lists of more than two responses; on pairs see test_limits.py."""

import itertools
import math

import pytest
import torch

from preflab.methods import DPO_PL, RankedLogps, RankedValues, ReferencedRanked

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.1}, "pair 1", 0.598139, -0.04502, 0.04502),
    ({"beta": 0.1}, "pair 2", 0.854355, -0.05744, 0.05744),
)
NO_PEER = "no package of the index has it"


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(DPO_PL, *golden)


def test_a_ranking_of_three_is_a_choice_of_the_best_then_of_the_second():
    """Strengths e^r = 3, 2, 1: the ranking has probability 3/6 * 2/3 = 1/3."""
    reward = torch.tensor([3.0, 2.0, 1.0]).double().log()
    zero, prompt = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.int64)
    batch = ReferencedRanked(
        RankedLogps(reward, zero + 1, prompt), RankedLogps(zero, zero + 1, prompt), RankedValues(zero, prompt)
    )
    assert DPO_PL.loss(batch, beta=1.0).loss.tolist() == pytest.approx([math.log(3)], rel=1e-6)


def test_all_rankings_of_a_list_have_probability_one(random_batch):
    """Summed over the 24 orders of four responses, exp(-loss) is 1."""
    generator = torch.Generator().manual_seed(0)
    reward = torch.randn(4, generator=generator, dtype=torch.float64)
    zero, prompt = torch.zeros(4, dtype=torch.float64), torch.zeros(4, dtype=torch.int64)
    total = 0.0
    for order in itertools.permutations(range(4)):
        policy = RankedLogps(reward[list(order)], zero + 1, prompt)
        batch = ReferencedRanked(policy, RankedLogps(zero, zero + 1, prompt), RankedValues(zero, prompt))
        total += math.exp(-DPO_PL.loss(batch, beta=1.0).loss.item())
    assert total == pytest.approx(1.0)
