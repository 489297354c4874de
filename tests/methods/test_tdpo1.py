"""tdpo1: golden values from the equation, and what the equation says at chosen points."""

import pytest
import torch

from preflab.methods import TDPO1

# Derived in float64 from the equation, terms without gradient held; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.1}, "pair 1", 0.616344, -0.04601, 0.04601),
    ({"beta": 0.1}, "pair 2", 0.877528, -0.05842, 0.05842),
)
NO_PEER = "no package of the index has it; the authors publish code only"


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(TDPO1, *golden)


def test_both_divergences_get_gradients(fixed_batch):
    batch = fixed_batch(TDPO1.inputs, "pair 1")
    totals = [part.total for part in (batch.policy.chosen, batch.divergence.chosen, batch.divergence.rejected)]
    margin, chosen, rejected = torch.autograd.grad(TDPO1.loss(batch, beta=0.1).loss.sum(), totals)
    assert chosen.item() == pytest.approx(margin.item()) and rejected.item() == pytest.approx(-margin.item())


def test_rewards_count_the_drift_along_the_response(fixed_batch):
    """Pair 1: log-ratios 1 and -1, divergences 0.3 and 0.7."""
    output = TDPO1.loss(fixed_batch(TDPO1.inputs, "pair 1"), beta=0.1)
    assert output.chosen_reward.tolist() == pytest.approx([0.13])
    assert output.rejected_reward.tolist() == pytest.approx([-0.03])


def test_divergences_of_other_pairs_are_refused(fixed_batch):
    batch = fixed_batch(TDPO1.inputs, "pair 1")
    two = type(batch.divergence)(*(type(part)(*(values.repeat(2) for values in part)) for part in batch.divergence))
    with pytest.raises(ValueError, match="one number of examples"):
        TDPO1.loss(batch._replace(divergence=two), beta=0.1)
