"""flex_dpo: golden values from the equation; what ties it to other methods is in test_limits.py."""

import pytest

from preflab.methods import FLEX_DPO

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta_chosen": 0.1, "beta_rejected": 0.08}, "pair 1", 0.607192, -0.04551, 0.03641),
    ({"beta_chosen": 0.1, "beta_rejected": 0.08}, "pair 2", 0.831573, -0.05646, 0.04517),
)
NO_PEER = "no package has it"


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(FLEX_DPO, *golden)
