"""cal_dpo: golden values from the equation; what ties it to other methods is in test_limits.py."""

import pytest

from preflab.methods import CAL_DPO

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.1}, "pair 1", 32.126928, -8.1192, 8.1192),
    ({"beta": 0.1}, "pair 2", 88.048587, -12.95257, 14.95257),
)
NO_PEER = "no package of the index has it; the authors publish code only"


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(CAL_DPO, *golden)
