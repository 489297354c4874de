"""mpo: golden values from the equation, and what the equation says at chosen points."""

import pytest
import torch

from preflab.methods import BCO, DPO, MPO, SFT

# Derived in float64 from the equation, terms without gradient held; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    (
        {"dpo_weight": 0.8, "dpo_beta": 0.1, "bco_weight": 0.2, "bco_beta": 0.1, "sft_weight": 1.0},
        "pair 1",
        2.23627,
        -0.17051,
        0.04551,
    ),
    (
        {"dpo_weight": 0.8, "dpo_beta": 0.1, "bco_weight": 0.2, "bco_beta": 0.1, "sft_weight": 1.0},
        "pair 2",
        2.741867,
        -0.1817,
        0.0567,
    ),
)
NO_PEER = "trl 1.16.0 mixes losses, but its bco_pair has no reward shift; the parts have their own peers"


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(MPO, *golden)


def test_is_the_weighted_sum_of_its_parts(random_batch):
    batch = random_batch(MPO.inputs, n=6, seed=4)
    setting = dict(dpo_weight=0.3, dpo_beta=0.2, bco_weight=0.5, bco_beta=0.7, sft_weight=2.0)
    output = MPO.loss(batch, **setting)
    bco = BCO.loss(batch.bco, beta=0.7)
    expected = 0.3 * DPO.loss(batch.dpo, beta=0.2).loss + 0.5 * bco.loss + 2.0 * SFT.loss(batch.sft).loss
    torch.testing.assert_close(output.loss, expected)
    assert output.state == bco.state
    torch.testing.assert_close(output.chosen_reward, DPO.loss(batch.dpo, beta=0.2).chosen_reward)
