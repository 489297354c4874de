"""dpo_nll: golden values from the equation; what ties it to other methods is in test_limits.py."""

import pytest

from preflab.methods import DPO_NLL

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.1, "alpha": 1.0}, "pair 1", 2.098139, -0.17002, 0.04502),
    ({"beta": 0.1, "alpha": 1.0}, "pair 2", 2.604355, -0.18244, 0.05744),
)
NO_PEER = "trl 1.16.0 averages the likelihood over all tokens of the micro-batch"


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(DPO_NLL, *golden)
