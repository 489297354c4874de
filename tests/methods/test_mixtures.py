"""Mixtures: what they declare, where they cannot be, and their value at the reference."""

import math

import pytest
import torch

from preflab.core.domains import specs
from preflab.core.errors import ConfigError
from preflab.methods import ALL, BCO, DPO, KTO, MPO, ORPO, SFT, SIMPO, Logps, find, validate
from preflab.methods._trial import at_reference, remade, trial
from preflab.methods.cards import bibtex, card, card_text


def test_a_mixture_is_named_after_its_parts():
    mixed = find(" dpo + sft ")
    assert (mixed.name, mixed.title) == ("dpo_plus_sft", "DPO + SFT")
    assert mixed.summary == "Weighted sum of DPO and SFT."
    assert mixed.inputs._fields == ("dpo", "sft")
    validate(mixed)
    trial(mixed)


def test_a_mixture_has_the_hyperparameters_of_its_parts():
    found = specs(find("simpo+sft").hyperparameters)
    assert list(found) == ["simpo_weight", "simpo_beta", "simpo_gamma_beta_ratio", "sft_weight"]
    own = specs(SIMPO.hyperparameters)["beta"]
    beta = found["simpo_beta"]
    assert (beta.domain, beta.grid, beta.unit, beta.log_scale) == (own.domain, own.grid, own.unit, own.log_scale)
    assert beta.doc == "SimPO: " + own.doc[0].lower() + own.doc[1:]
    assert found["sft_weight"].doc == "Weight of SFT; 0 removes it." and found["sft_weight"].grid == (1.0,)
    with pytest.raises(ConfigError, match=r"sft_weight: must be in \[0, inf\); got -1"):
        find("simpo+sft").hyperparameters(sft_weight=-1)


def test_a_mixture_cites_every_part():
    mixed = find("dpo+orpo+dpo_nll")
    text = bibtex([mixed])
    assert all(bibtex([find(name)]).strip() in text for name in ("dpo", "orpo", "dpo_nll"))
    assert bibtex([find("ipo+ipo_mean")]) == bibtex([find("ipo")])
    source = find("dpo+orpo").source
    assert source.paper == f"{DPO.source.paper}; {ORPO.source.paper}" and source.title == "DPO + ORPO"
    assert source.equation == "weighted sum of DPO: arXiv:2305.18290; ORPO: arXiv:2403.07691"
    line = f"- Source: {source.paper}, *DPO + ORPO*, {source.equation}\n"
    assert line in card_text(find("dpo+orpo"))


def test_the_card_of_a_mixture_states_its_sum():
    found = card(find("dpo+sft"))
    assert found["formula"] == "loss = dpo_weight * dpo + sft_weight * sft"
    assert found["loss_at_reference"] == "Weighted sum of the parts' losses at the reference"
    assert found["learning_rates"] == list(DPO.learning_rates)
    assert card(MPO)["hyperparameters"]["bco_beta"]["default"] == 0.1 and card(MPO)["learning_rates"] == [5e-6]


def test_the_docstring_of_a_mixture_lists_arguments_and_source():
    text = MPO.loss.__doc__
    formula = "loss = dpo_weight * dpo + bco_weight * bco + sft_weight * sft"
    assert text.startswith(f"Weighted sum of losses.\n\n{formula}\n\nArgs:\n    batch: the inputs of every part.\n")
    assert "\n    dpo_weight: Weight of DPO; 0 removes it.\n    dpo_beta: DPO: strength of the tie" in text
    assert "\n\nReturns:\n    loss [pair]; rewards of the first part, detached. Where policy" in text
    assert "the loss is the same\n    sum of the parts' losses there.\n\nReferences:\n    Wang et al." in text
    assert text.endswith(", 2411.10442.")
    assert find("dpo+sft").loss.__doc__.endswith("; SFT: arXiv:2203.02155.")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sft+kto", "sft_plus_kto: a mixture needs a method that compares pairs, such as dpo, among its parts."),
        ("dpo+tr_dpo", "dpo_plus_tr_dpo: tr_dpo moves the reference, which the other parts need to stand still."),
        ("dpo+dpo", "dpo+dpo: each method of a mixture must be named once."),
        ("dpo+stf", "method 'stf': unknown. Did you mean 'sft'?"),
    ],
)
def test_a_mixture_that_cannot_be_is_refused(spec, message):
    with pytest.raises(ConfigError) as raised:
        find(spec)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("spec", "declared"),
    [
        ("dpo+ipo", (True, True, True)),
        ("dpo+aot", (False, True, False)),
        ("dpo+orpo", (True, False, True)),
        ("dpo+sft", (True, False, False)),
    ],
)
def test_a_mixture_is_as_invariant_as_all_of_its_parts(spec, declared):
    found = find(spec).invariances
    assert (found.permutation, found.constant_shift, found.batch_split) == declared


@pytest.mark.parametrize("spec", ["dpo+orpo", "dpo+kto", "ipo+sft+bco", "simpo+dpo"])
def test_the_loss_at_the_reference_is_true_also_of_parts_without_one(spec, random_batch, leaves_of):
    mixed = find(spec)
    batch = random_batch(mixed.inputs, n=5)
    table = leaves_of(batch)
    same = remade(batch, lambda leaf, part: at_reference(table, leaf, part))
    setting = {name: 0.3 + 0.1 * i for i, name in enumerate(specs(mixed.hyperparameters))}
    expected = mixed.loss(same, **setting).loss.mean().item()
    assert mixed.loss_at_reference(batch, **setting) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("spec", ["dpo+tpo", "dpo+rrhf"])
def test_a_part_whose_reference_nobody_asks_for_leaves_the_value_open(spec, random_batch):
    """A gold response, or a list beside pairs, has no reference log-probs in the batch."""
    mixed = find(spec)
    setting = {name: 0.3 for name in specs(mixed.hyperparameters)}
    assert math.isnan(mixed.loss_at_reference(random_batch(mixed.inputs), **setting))


def test_mixtures_without_a_reference_have_no_value_there():
    assert find("simpo+sft").loss_at_reference is None
    assert find("dpo+sft").loss_at_reference is not None


def test_clamps_of_the_parts_are_counted_once(random_batch):
    mixed = find("dpo+fdpo_forward_kl+alpha_po")
    batch = random_batch(mixed.inputs, n=3)
    low = torch.tensor([-500.0, -20.0, -20.0], dtype=torch.float64)

    def change(leaf, part):
        return Logps(low, part.length) if leaf.quantity == "policy" and leaf.role == "rejected" else part

    setting = {name: spec.grid[0] for name, spec in specs(mixed.hyperparameters).items()}
    assert mixed.loss(remade(batch, change), **setting).clamped.tolist() == [True, False, False]
    assert (
        find("dpo+sft").loss(random_batch(find("dpo+sft").inputs), dpo_weight=1, dpo_beta=1, sft_weight=1).clamped
        is None
    )


def test_the_first_part_gives_the_rewards(random_batch):
    mixed = find("simpo+dpo")
    batch = random_batch(mixed.inputs, n=3)
    output = mixed.loss(batch, simpo_weight=1, simpo_beta=2.0, simpo_gamma_beta_ratio=0.1, dpo_weight=1, dpo_beta=0.1)
    torch.testing.assert_close(output.chosen_reward, 2.0 * batch.simpo.chosen.mean.detach())
    torch.testing.assert_close(output.rejected_reward, 2.0 * batch.simpo.rejected.mean.detach())


def test_built_in_mixtures_are_methods_like_others():
    assert MPO in ALL and find("mpo") is MPO and {BCO, DPO, SFT, KTO} <= set(ALL)
