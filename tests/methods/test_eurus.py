"""eurus: golden values, and what it adds to DPO."""

import pytest
import torch
import torch.nn.functional as F

from preflab.methods import DPO, EURUS

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.1}, "pair 1", 1.886933, -0.092519, 0.092519),
    ({"beta": 0.1}, "pair 2", 2.396891, -0.109942, 0.112428),
)
NO_PEER = "no package has it on implicit rewards"


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(EURUS, *golden)


def test_adds_the_sign_of_each_reward_to_dpo(random_batch):
    batch = random_batch(EURUS.inputs, n=8, seed=2)
    chosen, rejected = (
        0.2 * (getattr(batch.policy, role).total - getattr(batch.reference, role).total)
        for role in ("chosen", "rejected")
    )
    signs = F.softplus(-chosen) + F.softplus(rejected)
    torch.testing.assert_close(EURUS.loss(batch, beta=0.2).loss, DPO.loss(batch, beta=0.2).loss + signs)
