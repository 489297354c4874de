"""rrhf: golden values, and when the ranking term is silent."""

import pytest
import torch

from preflab.methods import RRHF

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"weight": 1.0}, "pair 1", 1.75, -0.25, 0.08333),
    ({"weight": 1.0}, "pair 2", 2.5, -0.25, 0.08333),
)
NO_PEER = "no package of the index has it; the authors publish code only"


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(RRHF, *golden)


def test_only_fine_tuning_is_left_where_the_order_is_right(random_batch):
    batch = random_batch(RRHF.inputs, n=32, seed=1)
    right = batch.chosen.mean > batch.rejected.mean
    loss = RRHF.loss(batch, weight=7.0).loss
    assert 0 < right.sum() < 32
    torch.testing.assert_close(loss[right], -batch.chosen.mean[right])
    assert (loss[~right] > -batch.chosen.mean[~right]).all()
