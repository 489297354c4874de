"""tdpo2: golden values from the equation, and what the equation says at chosen points."""

import pytest
import torch

from preflab.methods import DPO, TDPO1, TDPO2, ReferencedPair

# Derived in float64 from the equation, terms without gradient held; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.1, "alpha": 0.5}, "pair 1", 0.607192, -0.04551, 0.04551),
    ({"beta": 0.1, "alpha": 0.5}, "pair 2", 0.865893, -0.05793, 0.05793),
)
NO_PEER = "no package of the index has it; the authors publish code only"


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(TDPO2, *golden)


def test_only_the_rejected_divergence_gets_a_gradient(fixed_batch):
    batch = fixed_batch(TDPO2.inputs, "pair 1")
    totals = [part.total for part in (batch.policy.chosen, batch.divergence.chosen, batch.divergence.rejected)]
    loss = TDPO2.loss(batch, beta=0.1, alpha=0.5).loss.sum()
    margin, chosen, rejected = torch.autograd.grad(loss, totals, allow_unused=True)
    assert chosen is None and rejected.item() == pytest.approx(-0.5 * margin.item())


def test_is_tdpo1_at_weight_one_and_dpo_at_weight_zero(random_batch):
    batch = random_batch(TDPO2.inputs, n=6, seed=4)
    first = TDPO1.loss(TDPO1.inputs(*batch), beta=0.3).loss
    torch.testing.assert_close(TDPO2.loss(batch, beta=0.3, alpha=1.0).loss, first)
    dpo = DPO.loss(ReferencedPair(batch.policy, batch.reference), beta=0.3).loss
    torch.testing.assert_close(TDPO2.loss(batch, beta=0.3, alpha=0.0).loss, dpo)


def test_rewards_count_the_drift_along_the_response(fixed_batch):
    """Pair 1: log-ratios 1 and -1, divergences 0.3 and 0.7."""
    output = TDPO2.loss(fixed_batch(TDPO2.inputs, "pair 1"), beta=0.1, alpha=0.5)
    assert output.chosen_reward.tolist() == pytest.approx([0.13])
    assert output.rejected_reward.tolist() == pytest.approx([-0.03])


def test_divergences_of_other_pairs_are_refused(fixed_batch):
    batch = fixed_batch(TDPO2.inputs, "pair 1")
    two = type(batch.divergence)(*(type(part)(*(values.repeat(2) for values in part)) for part in batch.divergence))
    with pytest.raises(ValueError, match="one number of examples"):
        TDPO2.loss(batch._replace(divergence=two), beta=0.1, alpha=0.5)
