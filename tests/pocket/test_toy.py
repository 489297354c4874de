"""The toy model: its probabilities and gradients are exact, seeds share nothing, and the robust claims hold."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from preflab.methods import ALL, find
from preflab.pocket import toy

SETTINGS = toy.ToySettings(
    width=16,
    activation="relu",
    fit_steps=400,
    fit_learning_rate=1e-2,
    steps=6,
    learning_rate=1e-3,
    record_every=3,
)
BOTH_ON = toy.initial(0.12, 0.12, (0.03, 0.01))


def fitted(seeds, settings=SETTINGS, target=BOTH_ON):
    policies = toy.Policies(seeds, settings)
    toy.fit(policies, target, settings)
    return policies


def column(records, name):
    return records[..., toy.COLUMNS.index(name)]


def test_a_fit_reaches_the_probabilities_of_its_scenario():
    policies = fitted([0, 1])
    np.testing.assert_allclose(policies.log_probs().detach().exp(), np.broadcast_to(BOTH_ON, (2, 4, 10)), atol=1e-3)


@pytest.mark.parametrize("method", ALL, ids=lambda m: m.name)
def test_seeds_train_side_by_side_as_they_would_alone(method):
    hyperparameters = {k: v for k, v in vars_of(method).items()}
    both, alone = fitted([1, 5]), fitted([5])
    together = toy.train(both, method, hyperparameters, SETTINGS, seeds=[1, 5])
    single = toy.train(alone, method, hyperparameters, SETTINGS, seeds=[5])
    assert together.shape == (3, 2, len(toy.COLUMNS))
    # A gradient of exactly zero has no logarithm; everything else is a number.
    assert np.isfinite(column(together, "loss")).all() and not np.array_equal(together[0], together[-1])
    # Probabilities of fits in float32; one seed alone multiplies in another order.
    plain = [toy.COLUMNS.index(n) for n in ("chosen", "rejected", "unseen", "others_chosen", "never", "kl", "loss")]
    np.testing.assert_allclose(together[:, 1, plain], single[:, 0, plain], rtol=1e-3, atol=1e-4)


def vars_of(method):
    defaults = method.hyperparameters()
    return {name: getattr(defaults, name) for name in type(defaults).__dataclass_fields__}


def test_the_recorded_masses_are_the_whole_distribution():
    records = toy.train(fitted([0]), find("dpo"), {"beta": 0.1}, SETTINGS, seeds=[0])
    parts = [column(records, n) for n in ("chosen", "rejected", "others_chosen", "others_rejected", "never")]
    np.testing.assert_allclose(sum(parts), 1.0, atol=1e-12)
    np.testing.assert_allclose(column(records, "unseen"), (1 - parts[0] - parts[1]) / 8, atol=1e-12)


@pytest.mark.parametrize("steps", [0, 200])
def test_gradients_by_the_probabilities_are_those_of_the_paper(steps):
    """Section 2.2: with a = (ref+/ref-)^b and z = p-/p+, dl/dp+ = -(a b z^(b-1) / (1 + a z^b)) p- / p+^2."""
    beta, settings = 0.1, replace(SETTINGS, steps=steps, record_every=max(1, steps))
    policies = fitted([0, 1], settings)
    start = policies.log_probs().detach().exp().numpy()
    records = toy.train(policies, find("dpo"), {"beta": beta}, settings, seeds=[0, 1])
    end = policies.log_probs().detach().exp().numpy()

    def sides(p):
        return p[:, range(4), toy.CHOSEN], p[:, range(4), toy.REJECTED]

    (chosen, rejected), (ref_chosen, ref_rejected) = sides(end), sides(start)
    a, z = (ref_chosen / ref_rejected) ** beta, rejected / chosen
    common = a * beta * z ** (beta - 1) / (1 + a * z**beta)
    np.testing.assert_allclose(10 ** column(records, "log10_grad_chosen")[-1], (common * rejected / chosen**2).mean(1))
    np.testing.assert_allclose(10 ** column(records, "log10_grad_rejected")[-1], (common / chosen).mean(1))
    np.testing.assert_allclose(column(records, "log10_ratio")[-1], np.log10(chosen / rejected).mean(1), atol=1e-12)


@pytest.mark.parametrize(
    ("name", "hyperparameters", "ratio"),
    [
        ("dpo", {"beta": 0.1}, -1.0),
        ("ipo", {"tau": 0.1}, -1.0),
        ("simpo", {"beta": 2.0, "gamma_beta_ratio": 0.5}, -1.0),
        ("flex_dpo", {"beta_chosen": 0.1, "beta_rejected": 0.08}, -0.8),
        ("slic_hf", {"delta": 5.0, "lambda_ref": 0.1}, -1 / 1.1),
    ],
)
def test_by_the_log_probs_the_sides_differ_as_each_loss_says(name, hyperparameters, ratio):
    records = toy.train(fitted([0]), find(name), hyperparameters, SETTINGS, seeds=[0])
    np.testing.assert_allclose(column(records, "slope_rejected") / column(records, "slope_chosen"), ratio, rtol=1e-9)


def test_a_policy_that_diverges_ends_and_its_neighbours_go_on():
    policies = fitted([0, 1])
    with torch.no_grad():
        policies.weights["third_bias"][0, 0, 0] = torch.nan
    records = toy.train(policies, find("dpo"), {"beta": 0.1}, SETTINGS, seeds=[0, 1])
    assert np.isnan(records[:, 0]).all() and np.isfinite(records[:, 1]).all()


LARGE = replace(SETTINGS, width=256, fit_steps=1000, fit_learning_rate=1e-3, learning_rate=1e-4)


@pytest.fixture(scope="module")
def start():
    return fitted([0, 1, 2], LARGE)


def trained(start, steps, name, **hyperparameters):
    settings = replace(LARGE, steps=steps, record_every=steps // 2)
    return toy.train(deepcopy(start), find(name), hyperparameters, settings, seeds=[0, 1, 2])


def test_the_numbers_of_another_implementation_come_out(start):
    """numpy, float64, three seeds: chosen .38 and a ratio of 10^5 at 250 steps, .39 to .41 and 10^13 at 500."""
    records = trained(start, 500, "dpo", beta=0.1)
    assert column(records, "chosen")[1].mean() == pytest.approx(0.38, abs=0.04)
    assert column(records, "log10_ratio")[1].mean() == pytest.approx(5, abs=1)
    assert column(records, "chosen")[2].mean() == pytest.approx(0.40, abs=0.04)
    assert column(records, "log10_ratio")[2].mean() == pytest.approx(13, abs=1)


def test_dpo_loses_the_rejected_answer_and_most_of_the_mass_goes_to_other_prompts_answers(start):
    records = trained(start, 800, "dpo", beta=0.1)
    assert (column(records, "rejected")[-1] < 1e-12).all()
    assert (column(records, "log10_ratio")[-1] > 10).all()
    assert (column(records, "chosen")[-1] < 0.6).all()
    lost = 1 - column(records, "chosen")[-1]
    assert (column(records, "others_chosen")[-1] / lost > 0.99).all()


@pytest.mark.parametrize(
    ("name", "hyperparameters"),
    [
        ("flex_dpo", {"beta_chosen": 0.1, "beta_rejected": 0.02}),
        ("sft_dpo", {"beta": 0.1, "gamma": 0.1}),
        ("slic_hf", {"delta": 5.0, "lambda_ref": 0.1}),
    ],
)
def test_remedies_keep_more_of_the_chosen_answer_than_dpo(start, name, hyperparameters):
    dpo = column(trained(start, 1600, "dpo", beta=0.1), "chosen")[-1]
    assert (column(trained(start, 1600, name, **hyperparameters), "chosen")[-1] > dpo + 0.1).all()


def test_the_last_step_is_always_recorded():
    settings = replace(SETTINGS, steps=7, record_every=3)
    assert toy.recorded_steps(settings) == [0, 3, 6, 7]
    policies = fitted([0], settings)
    records = toy.train(policies, find("dpo"), {"beta": 0.1}, settings, seeds=[0])
    end = policies.log_probs().detach().exp()[:, range(4), toy.CHOSEN].mean()
    assert column(records, "chosen")[-1] == pytest.approx(float(end), abs=1e-12)
