"""What ties methods together: each is another one at some setting or on some data, for every batch there is."""

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from preflab import methods as m
from preflab.methods import Logps, Pair, Referenced, ReferencedPair, Unpaired
from preflab.methods.beta_dpo import OneNumberPerPair

LOG_PROB = st.floats(-60.0, -0.05)
LENGTH = st.integers(1, 40).map(float)
BETA = st.floats(0.01, 2.0)
ROW = st.tuples(LOG_PROB, LOG_PROB, LOG_PROB, LOG_PROB, LENGTH, LENGTH)
ROWS = st.lists(ROW, min_size=1, max_size=5)


def pairs(rows: list[tuple[float, ...]], length: float | None = None) -> ReferencedPair:
    """A float64 batch; the rows are policy chosen and rejected, reference chosen and rejected, and the lengths."""
    cw, rw, cr, rr, n_chosen, n_rejected = torch.tensor(rows, dtype=torch.float64).unbind(1)
    if length is not None:
        n_chosen, n_rejected = torch.full_like(cw, length), torch.full_like(cw, length)
    return ReferencedPair(
        Pair(Logps(cw, n_chosen), Logps(rw, n_rejected)), Pair(Logps(cr, n_chosen), Logps(rr, n_rejected))
    )


def loss(method: m.Method, batch: Any, **changes: float) -> Tensor:
    """The loss at the method's defaults with some of them changed."""
    return method.loss(batch, **dataclasses.asdict(method.hyperparameters(**changes))).loss


IS_DPO = [
    (m.CDPO, {"label_noise": 0.0}),
    (m.ROBUST_DPO, {"label_noise": 0.0}),
    (m.R_DPO, {"alpha": 0.0}),
    (m.DPOP, {"penalty": 0.0}),
    (m.SFT_DPO, {"gamma": 0.0}),
    (m.RPO, {"eta": 0.0}),
    (m.DPO_NLL, {"alpha": 0.0}),
    (m.FDPO_REVERSE_KL, {}),
]


@pytest.mark.parametrize(("method", "setting"), IS_DPO, ids=[method.name for method, _ in IS_DPO])
@given(rows=ROWS, beta=BETA)
def test_is_dpo_without_its_extra_term(method, setting, rows, beta):
    batch = pairs(rows)
    torch.testing.assert_close(loss(method, batch, beta=beta, **setting), loss(m.DPO, batch, beta=beta))


@given(rows=ROWS, beta=BETA)
def test_flex_dpo_with_equal_betas_is_dpo(rows, beta):
    batch = pairs(rows)
    flex = loss(m.FLEX_DPO, batch, beta_chosen=beta, beta_rejected=beta)
    torch.testing.assert_close(flex, loss(m.DPO, batch, beta=beta))


@given(rows=ROWS, beta=BETA, penalty=st.floats(0.0, 100.0))
def test_dpop_is_dpo_while_the_chosen_response_has_not_fallen(rows, beta, penalty):
    batch = pairs(rows)
    fallen = batch.policy.chosen.total < batch.reference.chosen.total
    dpop, dpo = loss(m.DPOP, batch, beta=beta, penalty=penalty), loss(m.DPO, batch, beta=beta)
    torch.testing.assert_close(dpop[~fallen], dpo[~fallen])
    assert (dpop >= dpo - 1e-12).all()


@given(rows=ROWS, beta=BETA)
def test_r_dpo_is_dpo_on_equal_lengths(rows, beta):
    batch = pairs(rows, length=7.0)
    torch.testing.assert_close(loss(m.R_DPO, batch, beta=beta, alpha=0.7), loss(m.DPO, batch, beta=beta))


@given(rows=ROWS, beta=BETA)
def test_ln_dpo_is_dpo_at_length_one(rows, beta):
    batch = pairs(rows, length=1.0)
    torch.testing.assert_close(loss(m.LN_DPO, batch, beta=beta), loss(m.DPO, batch, beta=beta))


@given(rows=ROWS, beta=BETA)
def test_rainbow_po_spans_ln_dpo_and_simpo(rows, beta):
    batch = pairs(rows)
    ln_dpo = loss(m.RAINBOW_PO, batch, beta=beta, alpha=1.0, gamma=0.0)
    torch.testing.assert_close(ln_dpo, loss(m.LN_DPO, batch, beta=beta))
    simpo = loss(m.RAINBOW_PO, batch, beta=beta, alpha=0.0, gamma=0.3)
    torch.testing.assert_close(simpo, loss(m.SIMPO, batch.policy, beta=beta, gamma_beta_ratio=0.3))


@given(rows=ROWS, beta=BETA)
def test_a_constant_reference_leaves_the_loss_without_one(rows, beta):
    batch = pairs(rows)
    constant = batch.reference.chosen
    free = ReferencedPair(batch.policy, Pair(constant, Logps(constant.total, batch.reference.rejected.length)))
    torch.testing.assert_close(loss(m.DPO, free, beta=beta), loss(m.CPO, batch.policy, beta=beta, alpha=0.0))


@given(rows=ROWS, beta=BETA)
def test_cpo_simpo_without_likelihood_is_simpo(rows, beta):
    batch = pairs(rows).policy
    both = {"beta": beta, "gamma_beta_ratio": 0.4}
    torch.testing.assert_close(loss(m.CPO_SIMPO, batch, alpha=0.0, **both), loss(m.SIMPO, batch, **both))


@given(rows=ROWS, beta=BETA)
def test_alpha_po_tends_to_simpo(rows, beta):
    batch = pairs(rows).policy
    both = {"beta": beta, "gamma_beta_ratio": 0.4}
    simpo = loss(m.SIMPO, batch, **both)
    torch.testing.assert_close(loss(m.ALPHA_PO, batch, alpha=0.0, **both), simpo)
    torch.testing.assert_close(loss(m.ALPHA_PO, batch, alpha=1e-9, **both), simpo, rtol=1e-5, atol=1e-5)


@given(rows=ROWS, beta=BETA)
def test_alpha_divergence_spans_forward_and_reverse_kl(rows, beta):
    batch = pairs(rows)
    forward = loss(m.FDPO_FORWARD_KL, batch, beta=beta)
    torch.testing.assert_close(loss(m.FDPO_ALPHA, batch, beta=beta, alpha=1.0), forward)
    reverse = loss(m.FDPO_ALPHA, batch, beta=beta, alpha=1e-7)
    torch.testing.assert_close(reverse, loss(m.DPO, batch, beta=beta), rtol=1e-3, atol=1e-3)


@given(row=ROW, beta=BETA)
def test_optimal_transport_of_one_pair_is_dpo(row, beta):
    batch = pairs([row])
    expected = loss(m.DPO, batch, beta=beta)
    torch.testing.assert_close(loss(m.AOT, batch, beta=beta), expected)
    torch.testing.assert_close(loss(m.AOT_UNPAIRED, batch, beta=beta), expected)


@given(rows=st.lists(ROW, min_size=2, max_size=6), beta=BETA, data=st.data())
def test_optimal_transport_does_not_see_the_order_of_its_groups(rows, beta, data):
    """Paired: the order of the pairs. Unpaired: which rejected response belongs to which chosen one."""
    batch = pairs(rows)
    order = torch.tensor(data.draw(st.permutations(range(len(rows)))))

    def moved(logps: Logps) -> Logps:
        return Logps(logps.total[order], logps.length[order])

    policy, reference = (Pair(moved(side.chosen), moved(side.rejected)) for side in batch)
    torch.testing.assert_close(loss(m.AOT, ReferencedPair(policy, reference), beta=beta), loss(m.AOT, batch, beta=beta))
    crossed = ReferencedPair(
        Pair(batch.policy.chosen, policy.rejected), Pair(batch.reference.chosen, reference.rejected)
    )
    torch.testing.assert_close(loss(m.AOT_UNPAIRED, crossed, beta=beta), loss(m.AOT_UNPAIRED, batch, beta=beta))


@given(rows=ROWS, beta=BETA)
def test_apo_zero_is_kto_with_a_baseline_of_zero(rows, beta):
    """Mismatched responses at the reference give the baseline max(0, 0)."""
    batch = pairs(rows)
    still = Referenced(batch.reference.chosen, batch.reference.chosen)
    groups = Unpaired(
        Referenced(batch.policy.chosen, batch.reference.chosen),
        Referenced(batch.policy.rejected, batch.reference.rejected),
        still,
    )
    kto = loss(m.KTO, groups, beta=beta)
    torch.testing.assert_close(loss(m.APO_ZERO, batch, beta=beta), kto[: len(rows)] + kto[len(rows) :])


@given(rows=ROWS, beta=BETA)
def test_asft_and_orpo_are_fine_tuning_at_weight_zero(rows, beta):
    batch = pairs(rows).policy
    expected = -batch.chosen.mean
    torch.testing.assert_close(loss(m.ASFT, batch, lambda_asft=0.0), expected)
    torch.testing.assert_close(loss(m.ORPO, batch, lambda_or=0.0), expected)


@given(rows=ROWS, beta=BETA, noise=st.floats(0.01, 0.45))
def test_robust_dpo_of_flipped_labels_averages_to_dpo(rows, beta, noise):
    """The estimate is unbiased: (1 - e) loss(pair) + e loss(flipped pair) is DPO's loss on the clean pair."""
    batch = pairs(rows)
    flipped = ReferencedPair(*(Pair(side.rejected, side.chosen) for side in batch))
    kept, swapped = (loss(m.ROBUST_DPO, each, beta=beta, label_noise=noise) for each in (batch, flipped))
    torch.testing.assert_close((1 - noise) * kept + noise * swapped, loss(m.DPO, batch, beta=beta))


@given(rows=ROWS, beta=BETA, noise=st.floats(0.01, 0.45))
def test_cdpo_is_the_expectation_of_dpo_over_flipped_labels(rows, beta, noise):
    batch = pairs(rows)
    flipped = ReferencedPair(*(Pair(side.rejected, side.chosen) for side in batch))
    kept, swapped = (loss(m.DPO, each, beta=beta) for each in (batch, flipped))
    torch.testing.assert_close(loss(m.CDPO, batch, beta=beta, label_noise=noise), (1 - noise) * kept + noise * swapped)


@given(rows=ROWS)
def test_chi_po_is_clipped_at_twice_its_bound(rows):
    batch = pairs(rows)
    bounded = loss(m.CHI_PO, batch, beta=0.05, reward_bound=0.5)
    low, high = torch.nn.functional.softplus(torch.tensor([-1.0, 1.0], dtype=torch.float64))
    assert (bounded >= low - 1e-12).all() and (bounded <= high + 1e-12).all()


@given(rows=ROWS, beta=BETA)
def test_losses_of_rankings_are_dpo_on_pairs(rows, beta):
    batch = pairs(rows)
    expected = loss(m.DPO, batch, beta=beta)
    torch.testing.assert_close(loss(m.DPO_PL, listed(batch), beta=beta), expected)
    torch.testing.assert_close(loss(m.INFONCA, listed(batch), beta=beta), expected)


@given(rows=ROWS, weight=st.floats(0.0, 100.0))
def test_rrhf_of_a_pair_is_a_hinge_per_token_beside_fine_tuning(rows, weight):
    batch = pairs(rows)
    chosen, rejected = batch.policy.chosen.mean, batch.policy.rejected.mean
    ranked = m.Ranked(listed(batch).policy, listed(batch).score)
    expected = weight * (rejected - chosen).clamp(min=0) - batch.policy.chosen.total
    torch.testing.assert_close(loss(m.RRHF, ranked, rank_weight=weight), expected)


@given(rows=ROWS, beta=BETA)
def test_tdpo_without_drift_is_dpo(rows, beta):
    batch = pairs(rows)
    still = Pair(*(part._replace(total=torch.zeros_like(part.total)) for part in batch.policy))
    expected = loss(m.DPO, batch, beta=beta)
    torch.testing.assert_close(loss(m.TDPO1, m.TDPO1.inputs(*batch, still), beta=beta), expected)
    torch.testing.assert_close(loss(m.TDPO2, m.TDPO2.inputs(*batch, still), beta=beta), expected)


@given(rows=ROWS, beta=BETA)
def test_tpo_without_its_gold_response_is_cpo_without_likelihood(rows, beta):
    batch = pairs(rows).policy
    triple = m.TPO.inputs(*batch, batch.chosen)
    expected = loss(m.CPO, batch, beta=beta, alpha=0.0)
    torch.testing.assert_close(loss(m.TPO, triple, beta=beta, alpha=0.0), expected)


@given(rows=ROWS, beta=BETA)
def test_tpo_whose_gold_response_is_the_chosen_one_is_cpo(rows, beta):
    batch = pairs(rows).policy
    triple = m.TPO.inputs(*batch, batch.chosen)
    torch.testing.assert_close(loss(m.TPO, triple, beta=beta, alpha=0.7), loss(m.CPO, batch, beta=beta, alpha=0.7))


@given(rows=ROWS, beta=BETA)
def test_alpha_dpo_without_adaptation_is_simpo(rows, beta):
    batch = m.ALPHA_DPO.inputs(*pairs(rows), m.Moments(0.3, 2.0, 9.0))
    both = {"beta": beta, "gamma_beta_ratio": 0.4}
    torch.testing.assert_close(loss(m.ALPHA_DPO, batch, alpha=0.0, **both), loss(m.SIMPO, batch.policy, **both))


@given(rows=ROWS, beta=BETA)
def test_beta_dpo_that_keeps_all_and_follows_nothing_is_dpo(rows, beta):
    batch = pairs(rows)
    noise = m.Values(torch.full((len(rows),), 0.5, dtype=torch.float64))
    filtered = m.BETA_DPO.inputs(*batch, OneNumberPerPair(noise), m.Moments())
    expected = loss(m.DPO, batch, beta=beta)
    torch.testing.assert_close(loss(m.BETA_DPO, filtered, beta=beta, alpha=0.0, rho=0.0), expected)


@given(rows=ROWS, beta=BETA)
def test_bco_without_a_shift_is_eurus_without_dpo(rows, beta):
    """Rewards whose mean is cancelled by what came before: -log sigma(r_w) - log sigma(-r_l), Eurus' second part."""
    batch = pairs(rows)
    chosen = (beta * (batch.policy.chosen.total - batch.reference.chosen.total)).sum()
    rejected = (beta * (batch.policy.rejected.total - batch.reference.rejected.total)).sum()
    before = m.Moments(mean=-float(chosen + rejected) / 10, n=10.0)
    bco = loss(m.BCO, m.BCO.inputs(*batch, before), beta=beta)
    torch.testing.assert_close(bco, loss(m.EURUS, batch, beta=beta) - loss(m.DPO, batch, beta=beta))


@given(rows=ROWS, beta=BETA)
def test_both_forms_of_bco_agree_on_pairs(rows, beta):
    """The paired loss is the sum of the two losses of its responses."""
    batch = pairs(rows)
    chosen = Referenced(batch.policy.chosen, batch.reference.chosen)
    rejected = Referenced(batch.policy.rejected, batch.reference.rejected)
    apart = loss(m.BCO_UNPAIRED, m.BCO_UNPAIRED.inputs(chosen, rejected, m.Moments(), m.Moments()), beta=beta)
    together = loss(m.BCO, m.BCO.inputs(*batch, m.Moments()), beta=beta)
    torch.testing.assert_close(together, apart[: len(rows)] + apart[len(rows) :])


@given(rows=ROWS, beta=BETA, weights=st.tuples(st.floats(0.0, 3.0), st.floats(0.0, 3.0)))
def test_a_mixture_is_the_weighted_sum_of_its_parts(rows, beta, weights):
    """Also of a part that looks at the responses one by one, which counts with the mean over the pair."""
    batch = pairs(rows)
    mixed = m.find("dpo+apo_zero")
    setting = {"dpo_weight": weights[0], "dpo_beta": beta, "apo_zero_weight": weights[1]}
    expected = weights[0] * loss(m.DPO, batch, beta=beta) + weights[1] * loss(m.APO_ZERO, batch)
    torch.testing.assert_close(loss(mixed, mixed.inputs(batch, batch), **setting), expected)
    groups = Unpaired(
        Referenced(batch.policy.chosen, batch.reference.chosen),
        Referenced(batch.policy.rejected, batch.reference.rejected),
        Referenced(batch.reference.chosen, batch.reference.chosen),
    )
    with_kto = m.find("dpo+kto")
    setting = {"dpo_weight": weights[0], "dpo_beta": beta, "kto_weight": weights[1], "kto_beta": beta}
    halves = loss(m.KTO, groups, beta=beta).reshape(2, -1).mean(0)
    expected = weights[0] * loss(m.DPO, batch, beta=beta) + weights[1] * halves
    torch.testing.assert_close(loss(with_kto, with_kto.inputs(batch, groups), **setting), expected)


def listed(batch: ReferencedPair) -> m.ReferencedRanked:
    """Pairs as lists of two, with scores 1 and 0."""
    prompt = torch.arange(len(batch.policy.chosen.total)).repeat_interleave(2)
    sides = [
        [torch.stack(both, dim=1).flatten() for both in zip(side.chosen, side.rejected, strict=True)] for side in batch
    ]
    score = torch.tensor([1.0, 0.0], dtype=torch.float64).repeat(len(prompt) // 2)
    policy, reference = (m.RankedLogps(*side, prompt) for side in sides)
    return m.ReferencedRanked(policy, reference, m.RankedValues(score, prompt))
