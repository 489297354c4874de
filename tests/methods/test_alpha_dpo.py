"""alpha_dpo: golden values from the equation, and what the equation says at chosen points."""

import math

import pytest
import torch

from preflab.methods import ALPHA_DPO, Logps, Moments, Pair
from preflab.methods.alpha_dpo import PairWithUsualGap

# Derived in float64 from the equation, terms without gradient held; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 10.0, "gamma_beta_ratio": 0.3, "alpha": 0.05}, "pair 1", 5.504078, -1.24491, 0.82994),
    ({"beta": 10.0, "gamma_beta_ratio": 0.3, "alpha": 0.05}, "pair 2", 10.500028, -1.24997, 0.83331),
)
NO_PEER = "no package of the index has it; the authors publish code only"


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(ALPHA_DPO, *golden)


def test_a_standardised_gap_of_one_raises_the_target_by_alpha():
    """Pair 1 has p = -0.25 and g = -0.25 - (-13/8 + 14/12); the moments before are such that M = 1 after it."""
    policy = Pair(logps(-12.0, 8.0), logps(-15.0, 12.0))
    reference = Pair(logps(-13.0, 8.0), logps(-14.0, 12.0))
    gap = -0.25 - (-13 / 8 + 14 / 12)
    before = Moments(mean=(gap - 0.5 - 0.1 * gap) / 0.9, std=0.5 / 0.9, n=8)
    output = ALPHA_DPO.loss(PairWithUsualGap(policy, reference, before), beta=10.0, gamma_beta_ratio=0.3, alpha=0.05)
    assert output.loss.item() == pytest.approx(math.log1p(math.exp(10 * (0.25 + 0.3 + 0.05))))
    assert output.loss.item() == pytest.approx(6.002476, abs=1e-6)
    assert output.state[0] == pytest.approx((gap - 0.5, 0.5, 9))


def logps(total, length):
    return Logps(torch.tensor([total], dtype=torch.float64), torch.tensor([length], dtype=torch.float64))
