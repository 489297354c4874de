"""nca: golden values, a peer's value, and lists of more than two responses."""

import math

import pytest
import torch

from preflab.methods import NCA, RankedLogps, RankedValues, ReferencedRanked

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.01, "temperature": 1e-4}, "pair 1", 1.381319, -0.00246, 0.00249),
    ({"beta": 0.01, "temperature": 1e-4}, "pair 2", 1.393838, -0.00254, 0.00252),
)
PEER = (
    "trl 1.16.0, DPOTrainer._compute_loss with loss_type nca_pair",
    {"beta": 0.01, "temperature": 1e-4},
    1.3920033433096417,
)


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(NCA, *golden)


def test_agrees_with_peer(fixed_batch):
    _, hyperparameters, mean_loss = PEER
    output = NCA.loss(fixed_batch(NCA.inputs, "peer"), **hyperparameters)
    assert output.loss.mean().item() == pytest.approx(mean_loss, rel=1e-09)


def test_three_scored_responses_share_the_targets():
    """Rewards 1, 0, -2 and scores with softmax 0.5, 0.25, 0.25 at temperature 1."""
    reward, scores = torch.tensor([1.0, 0.0, -2.0]).double(), torch.tensor([0.5, 0.25, 0.25]).double().log()
    zero, prompt = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.int64)
    batch = ReferencedRanked(
        RankedLogps(reward, zero + 1, prompt), RankedLogps(zero, zero + 1, prompt), RankedValues(scores, prompt)
    )
    output = NCA.loss(batch, beta=1.0, temperature=1.0)
    nls = [math.log1p(math.exp(-r)) for r in (1.0, 0.0, -2.0)]
    back = [math.log1p(math.exp(r)) for r in (1.0, 0.0, -2.0)]
    expected = 0.5 * nls[0] + 0.25 * nls[1] + 0.25 * nls[2] + sum(back) / 3
    assert output.loss.tolist() == pytest.approx([expected])
    assert (output.chosen_reward.tolist(), output.rejected_reward.tolist()) == ([1.0], [-2.0])
