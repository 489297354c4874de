"""r_dpo: golden values from the equation; what ties it to other methods is in test_limits.py."""

import pytest

from preflab.methods import R_DPO

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.1, "alpha": 0.1}, "pair 1", 0.798139, -0.05498, 0.05498),
    ({"beta": 0.1, "alpha": 0.1}, "pair 2", 1.103186, -0.06682, 0.06682),
)
NO_PEER = "trl 1.16.0 has no R-DPO"


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(R_DPO, *golden)
