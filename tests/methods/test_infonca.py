"""infonca: golden values from the equation, and lists of more than two responses; on pairs see test_limits.py."""

import math

import pytest
import torch

from preflab.methods import INFONCA, RankedLogps, RankedValues, ReferencedRanked
from preflab.methods._ops import ends, log_softmax_per_prompt

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.01, "temperature": 1e-4}, "pair 1", 0.683197, -0.00495, 0.00495),
    ({"beta": 0.01, "temperature": 1e-4}, "pair 2", 0.70826, -0.00507, 0.00507),
)
NO_PEER = "no package of the index has it; the authors publish code only"


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(INFONCA, *golden)


def test_three_scored_responses_share_the_targets():
    """Rewards log 4, log 2, log 2, so p = 1/2, 1/4, 1/4; targets 0.5, 0.3, 0.2: their cross-entropy is 1.5 log 2."""
    reward, scores = torch.tensor([4.0, 2.0, 2.0]).double().log(), torch.tensor([0.5, 0.3, 0.2]).double().log()
    zero, prompt = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.int64)
    batch = ReferencedRanked(
        RankedLogps(reward, zero + 1, prompt), RankedLogps(zero, zero + 1, prompt), RankedValues(scores, prompt)
    )
    output = INFONCA.loss(batch, beta=1.0, temperature=1.0)
    assert output.loss.tolist() == pytest.approx([0.5 * math.log(2) + 0.5 * math.log(4)], rel=1e-6)


def test_a_small_temperature_leaves_the_best_as_the_only_target(random_batch):
    batch = random_batch(INFONCA.inputs, n=6, seed=3)
    best, _ = ends(batch.policy.prompt)
    reward = 0.3 * (batch.policy.total - batch.reference.total)
    expected = -log_softmax_per_prompt(reward, batch.policy.prompt)[best]
    torch.testing.assert_close(INFONCA.loss(batch, beta=0.3, temperature=1e-4).loss, expected)
