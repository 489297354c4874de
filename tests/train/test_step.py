from dataclasses import asdict, replace

import pytest
import torch
from tests.frozen import frozen
from tests.tiny import random_rows, tiny_model

from preflab.methods import ALL, BCO, NCA, Moments
from preflab.methods.needs import needs_live_reference, roles_of, stored_roles
from preflab.models.policies import WholeModel
from preflab.scoring.logps import score
from preflab.train.lockstep import drive
from preflab.train.step import Given, gradient

ROLES = ("chosen", "rejected", "mismatched", "gold", "rank_2", "rank_3")


def given(method, rows, *, seed):
    """What a loss may ask for, under a reference with the weights of that seed."""
    reference = tiny_model(seed=seed).requires_grad_(False)
    return Given(
        references=score(reference, rows, ROLES, budget=1000),
        model=reference if needs_live_reference(method) else None,
        stream=(3, 1),
    )


def scored_rows(n):
    """Rows with every response and score that a method may ask for."""
    scores = {"rank_2": 2.5, "rank_3": 2.0, "rejected": 1.5}
    rows = [replace(row, scores={"chosen": 3.0 + i, **scores}) for i, row in enumerate(random_rows(n, roles=ROLES))]
    # Lists of four, three and two responses.
    return [replace(row, responses=without(row.responses, ROLES[4 + i % 3 :])) for i, row in enumerate(rows)]


def without(responses, roles):
    return {role: ids for role, ids in responses.items() if role not in roles}


def accumulate(model, rows, known, method, hyperparameters, *, budget):
    """Add the gradient of the summed loss to the parameters; return what the batch says about itself."""
    run = gradient(rows, known, method, hyperparameters, budget=budget)
    return drive(WholeModel(model), {0: run})[0]


def slope(method, rows, known, budget):
    model = tiny_model()
    result = accumulate(model, rows, known, method, asdict(method.hyperparameters()), budget=budget)
    return result, torch.cat([p.grad.flatten() for p in model.parameters()]) / result.n_examples


@pytest.mark.parametrize("method", ALL, ids=lambda m: m.name)
def test_one_batch_of_eight_equals_eight_of_one(method):
    rows = scored_rows(8)
    known = given(method, rows, seed=1)
    whole, expected = slope(method, rows, known, budget=10_000)
    split, found = slope(method, rows, known, budget=1)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-8)
    assert whole.read() == pytest.approx(split.read(), rel=1e-9, nan_ok=True)
    assert (whole.n_examples, whole.n_tokens) == (split.n_examples, split.n_tokens)
    assert all(a == pytest.approx(b, rel=1e-9) for a, b in zip(whole.state, split.state, strict=True))


@pytest.mark.parametrize("method", ALL, ids=lambda m: m.name)
def test_gradient_is_that_of_the_mean_loss(method):
    """Central difference along a random direction of the weights, with what the loss detaches standing still."""
    rows = scored_rows(4)
    known = given(method, rows, seed=1)
    standing = replace(method, loss=frozen(method))
    _, found = slope(standing, rows, known, budget=10_000)
    direction = torch.randn(found.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    losses = []
    h = 1e-6
    for sign in (-1, 1):
        model = tiny_model()
        with torch.no_grad():
            offset = 0
            for p in model.parameters():
                p += sign * h * direction[offset : offset + p.numel()].view_as(p)
                offset += p.numel()
        losses.append(
            accumulate(model, rows, known, standing, asdict(method.hyperparameters()), budget=10_000).read()["loss"]
        )
    assert float(found @ direction) == pytest.approx((losses[1] - losses[0]) / (2 * h), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("method", [m for m in ALL if m.loss_at_reference], ids=lambda m: m.name)
def test_loss_at_the_reference_is_what_the_method_declares(method):
    rows = scored_rows(8)
    result, _ = slope(method, rows, given(method, rows, seed=0), budget=40)
    measures = result.read()
    # Scores are stored in float32: that is the only difference.
    assert measures["loss"] == pytest.approx(measures["loss_at_reference"], rel=1e-4)


def test_roles_come_from_the_input_type():
    by_name = {m.name: m for m in ALL}
    assert roles_of(by_name["sft"]) == ("chosen",)
    assert roles_of(by_name["dpo"]) == ("chosen", "rejected")
    assert roles_of(by_name["kto"]) == ("chosen", "rejected", "mismatched")
    assert stored_roles(by_name["dpo"]) and not stored_roles(by_name["simpo"])


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({}, [2.0, 1.0, 0.0]),
        ({"chosen": 9.0, "rank_2": 4.0, "rejected": 4.0}, [9.0, 4.0, 4.0]),
        ({"chosen": 9.0, "rejected": 4.0}, [2.0, 1.0, 0.0]),
        ({"chosen": 4.0, "rank_2": 4.0, "rejected": 4.0}, [2.0, 1.0, 0.0]),
        ({"chosen": 4.0, "rank_2": 5.0, "rejected": 1.0}, [2.0, 1.0, 0.0]),
        ({"chosen": 1.0, "rank_2": 2.0, "rejected": 4.0}, [2.0, 1.0, 0.0]),
    ],
)
def test_scores_of_a_list_count_where_they_agree_with_its_order(scores, expected):
    """A pair whose scores contradict its labels must not be trained the wrong way round."""
    rows = [replace(row, scores=scores) for row in random_rows(3, roles=("rejected", "rank_2", "chosen"))]
    seen = []

    def watched(batch, **hyperparameters):
        seen.append(batch)
        return NCA.loss(batch, **hyperparameters)

    known = given(NCA, rows, seed=1)
    accumulate(tiny_model(), rows, known, replace(NCA, loss=watched), asdict(NCA.hyperparameters()), budget=10_000)
    (batch,) = seen
    assert batch.score.value.tolist() == expected * 3
    assert batch.score.prompt.tolist() == batch.policy.prompt.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    lengths = [len(row.responses[role]) for row in rows for role in ("chosen", "rank_2", "rejected")]
    assert batch.policy.length.tolist() == lengths


def test_numbers_that_a_loss_remembers_as_tensors_are_kept_as_numbers():
    """A checkpoint is JSON; the natural way to write a mean gives a tensor."""
    rows = scored_rows(4)

    def forgetful(batch, **hyperparameters):
        output = BCO.loss(batch, **hyperparameters)
        return output._replace(state=(Moments(mean=output.chosen_reward.mean()),))

    result = accumulate(
        tiny_model(), rows, given(BCO, rows, seed=1), replace(BCO, loss=forgetful), {"beta": 0.1}, budget=10_000
    )
    assert [type(value) for value in result.state[0]] == [float, float, float]
