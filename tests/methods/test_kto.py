"""kto: golden values, a peer's value and closed forms."""

import math

import pytest
import torch

from preflab.methods import KTO, Logps, Referenced, Unpaired

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.1, "lambda_desirable": 1.0, "lambda_undesirable": 1.0}, "pair 1", 0.950073, -0.02498, 0.02486),
    ({"beta": 0.1, "lambda_desirable": 1.0, "lambda_undesirable": 1.0}, "pair 2", 1.074860, -0.02486, 0.02486),
)
PEER = (
    "trl 1.16.0, KTOTrainer._compute_loss with undesirable_weight 1.33",
    {"beta": 0.1, "lambda_desirable": 1.0, "lambda_undesirable": 1.33},
    0.6124944358442256,
)


def test_the_loss_at_the_reference_weighs_both_groups(fixed_batch):
    batch = fixed_batch(KTO.inputs, "peer")
    assert KTO.loss_at_reference(batch, beta=0.1, lambda_desirable=3.0, lambda_undesirable=0.5) == (3.0 + 0.5) / 4


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(KTO, *golden)


def test_agrees_with_peer(fixed_batch):
    _, hyperparameters, mean_loss = PEER
    output = KTO.loss(fixed_batch(KTO.inputs, "peer"), **hyperparameters)
    assert output.loss.mean().item() == pytest.approx(mean_loss, rel=1e-9)


PLAIN = {"beta": 0.1, "lambda_desirable": 1.0, "lambda_undesirable": 1.0}


def group(policy: list[float], reference: list[float]) -> Referenced:
    """Responses of length 1."""
    one = torch.ones(len(policy), dtype=torch.float64)
    return Referenced(
        Logps(torch.tensor(policy, dtype=torch.float64, requires_grad=True), one),
        Logps(torch.tensor(reference, dtype=torch.float64), one),
    )


def test_loss_is_one_minus_the_value_function():
    """Desirable log-ratio 3, undesirable -2, baseline 1: 1 - sigma(2 beta) and 1 - sigma(3 beta)."""
    batch = Unpaired(group([-1.0], [-4.0]), group([-6.0], [-4.0]), group([-2.0, -3.0], [-4.0, -3.0]))
    losses = KTO.loss(batch, **PLAIN).loss.tolist()
    assert losses == pytest.approx([1 / (1 + math.exp(0.2)), 1 / (1 + math.exp(0.3))], rel=1e-12)


def test_baseline_is_clamped_at_zero():
    """A mismatched log-ratio of -5 counts as 0, so that a log-ratio of 0 costs one half."""
    batch = Unpaired(group([-4.0], [-4.0]), group([-4.0], [-4.0]), group([-9.0], [-4.0]))
    assert KTO.loss(batch, **PLAIN).loss.tolist() == [0.5, 0.5]


def test_baseline_carries_no_gradient():
    batch = Unpaired(group([-4.0], [-4.0]), group([-4.0], [-4.0]), group([-2.0], [-4.0]))
    mismatched = batch.mismatched.policy.total
    assert torch.autograd.grad(KTO.loss(batch, **PLAIN).loss.sum(), mismatched, allow_unused=True) == (None,)


def test_desirable_examples_come_first_and_groups_may_differ_in_size():
    batch = Unpaired(group([-4.0, -4.0], [-4.0, -4.0]), group([-4.0], [-4.0]), group([-4.0], [-4.0]))
    output = KTO.loss(batch, beta=0.1, lambda_desirable=1.0, lambda_undesirable=3.0)
    assert output.loss.tolist() == [0.5, 0.5, 1.5]
    assert (len(output.chosen_reward), len(output.rejected_reward)) == (2, 1)


@pytest.mark.parametrize("empty", ["chosen", "rejected"])
def test_a_batch_of_one_kind_of_label_is_allowed(empty):
    batch = Unpaired(group([-4.0], [-4.0]), group([-4.0], [-4.0]), group([-4.0], [-4.0]))._replace(
        **{empty: group([], [])}
    )
    assert KTO.loss(batch, **PLAIN).loss.tolist() == [0.5]
    assert KTO.loss_at_reference(batch, **PLAIN) == 0.5


def test_a_batch_without_mismatched_responses_is_refused():
    batch = Unpaired(group([-4.0], [-4.0]), group([-4.0], [-4.0]), group([], []))
    with pytest.raises(ValueError, match="at least one mismatched response"):
        KTO.loss(batch, **PLAIN)
