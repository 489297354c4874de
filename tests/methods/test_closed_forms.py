"""Closed forms that docstrings of methods without a reference state; the others are checked as loss_at_reference."""

import math

import pytest
import torch

from preflab.methods import ALPHA_PO, ASFT, CPO, CPO_SIMPO, ORPO, SFT, SIMPO, SLIC_HF, TPO, Chosen, Logps, Pair

LOG2 = math.log(2)


def logps(*totals_and_lengths):
    total, length = torch.tensor(totals_and_lengths, dtype=torch.float64).unbind(1)
    return Logps(total, length)


HALF = Pair(logps((-3 * LOG2, 3.0)), logps((-5 * LOG2, 5.0)))
"""Every token has probability 1/2; three against five."""


def value(method, batch, **hyperparameters):
    return method.loss(batch, **hyperparameters).loss.tolist()


def test_sft():
    assert value(SFT, Chosen(HALF.chosen)) == pytest.approx([LOG2])


def test_cpo():
    even = Pair(HALF.chosen, logps((-3 * LOG2, 7.0)))
    assert value(CPO, even, beta=0.3, alpha=0.7) == pytest.approx([LOG2 + 0.7 * LOG2])


def test_tpo():
    even = TPO.inputs(HALF.chosen, logps((-3 * LOG2, 7.0)), logps((-2 * LOG2, 2.0)))
    assert value(TPO, even, beta=0.3, alpha=0.7) == pytest.approx([LOG2 + 0.7 * LOG2])


def test_methods_with_a_target_margin():
    at_target = Pair(logps((-4.0, 8.0)), logps((-9.0, 10.0)))
    assert value(SIMPO, at_target, beta=3.0, gamma_beta_ratio=0.4) == pytest.approx([LOG2])
    assert value(CPO_SIMPO, at_target, beta=3.0, gamma_beta_ratio=0.4, alpha=0.5) == pytest.approx([LOG2 + 0.5 * 0.5])
    alpha = 0.25
    bent = [(1 - math.exp(-alpha * mean)) / alpha for mean in (-0.5, -0.9)]
    setting = {"beta": 3.0, "gamma_beta_ratio": bent[0] - bent[1], "alpha": alpha, "clamp": 80.0}
    assert value(ALPHA_PO, at_target, **setting) == pytest.approx([LOG2])


@pytest.mark.parametrize(("margin", "hinge"), [(0.5, 0.5), (1.0, 0.0), (4.0, 0.0)])
def test_slic_hf(margin, hinge):
    pair = Pair(logps((-3.0, 4.0)), logps((-3.0 - margin, 6.0)))
    assert value(SLIC_HF, pair, delta=1.0, lambda_ref=0.1) == pytest.approx([hinge + 0.3])


def test_odds_at_one_half():
    assert value(ORPO, HALF, lambda_or=0.4) == pytest.approx([LOG2 + 0.4 * LOG2])
    assert value(ASFT, HALF, lambda_asft=0.4) == pytest.approx([LOG2 + 0.4 * 2 * LOG2])
