import pytest
import torch
from tests.tiny import random_rows, tiny_model

from preflab.methods import ALL
from preflab.scoring.logps import score
from preflab.train.step import accumulate, needs_reference, roles_of

ROLES = ("chosen", "rejected", "mismatched")


def gradient(method, rows, references, budget):
    model = tiny_model()
    defaults = {f: getattr(method.hyperparameters(), f) for f in method.hyperparameters.__dataclass_fields__}
    result = accumulate(model, rows, references, method, defaults, budget=budget)
    return result, torch.cat([p.grad.flatten() for p in model.parameters()])


def references_of(rows, *, seed):
    return score(tiny_model(seed=seed), rows, ROLES, budget=1000)


@pytest.mark.parametrize("method", ALL, ids=lambda m: m.name)
def test_one_batch_of_eight_equals_eight_of_one(method):
    rows = random_rows(8, roles=ROLES)
    references = references_of(rows, seed=1)
    whole, expected = gradient(method, rows, references, budget=10_000)
    split, found = gradient(method, rows, references, budget=1)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-8)
    for a, b in zip(whole, split, strict=True):
        assert a == pytest.approx(b, rel=1e-9, nan_ok=True)


# KTO's baseline is detached, so its gradient is not that of the printed loss.
@pytest.mark.parametrize("method", [m for m in ALL if m.name != "kto"], ids=lambda m: m.name)
def test_gradient_is_that_of_the_mean_loss(method):
    """Central difference along a random direction of the weights."""
    rows = random_rows(4, roles=ROLES)
    references = references_of(rows, seed=1)
    _, slope = gradient(method, rows, references, budget=10_000)
    direction = torch.randn(slope.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    defaults = {f: getattr(method.hyperparameters(), f) for f in method.hyperparameters.__dataclass_fields__}
    losses = []
    h = 1e-6
    for sign in (-1, 1):
        model = tiny_model()
        with torch.no_grad():
            offset = 0
            for p in model.parameters():
                p += sign * h * direction[offset : offset + p.numel()].view_as(p)
                offset += p.numel()
        losses.append(accumulate(model, rows, references, method, defaults, budget=10_000).loss)
    assert float(slope @ direction) == pytest.approx((losses[1] - losses[0]) / (2 * h), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("method", [m for m in ALL if needs_reference(m)], ids=lambda m: m.name)
def test_loss_at_the_reference_is_what_the_method_declares(method):
    rows = random_rows(8, roles=ROLES)
    result, _ = gradient(method, rows, references_of(rows, seed=0), budget=40)
    # Scores are stored in float32: that is the only difference.
    assert result.loss == pytest.approx(result.loss_at_reference, rel=1e-4)


def test_roles_come_from_the_input_type():
    by_name = {m.name: m for m in ALL}
    assert roles_of(by_name["sft"]) == ("chosen",)
    assert roles_of(by_name["dpo"]) == ("chosen", "rejected")
    assert roles_of(by_name["kto"]) == ("chosen", "rejected", "mismatched")
    assert needs_reference(by_name["dpo"]) and not needs_reference(by_name["simpo"])
