"""How other tools spell the methods: one row for each spelling, with what is not the same.

Read from the sources of the versions named; a version between two of them was not seen. Batch statistics and token
means are over the micro-batch in every peer and over the optimizer batch here, which is the same without gradient
accumulation on one device; rows repeat it only where it is easily missed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from preflab.methods._types import Method


@dataclass(frozen=True, slots=True)
class Spelling:
    """One way to ask a peer for an objective.

    Args:
        peer: the tool and what of it.
        version: release, or the first eight digits of a commit.
        asked: its options, `e`, `a`, `g`, `w` standing for numbers.
        ours: a method or a mixture, spelled as in study files; empty where there is none.
        parameters: our hyper-parameters in terms of theirs; those of the same name are left out.
        note: what differs, and traps.
    """

    peer: str
    version: str
    asked: str
    ours: str
    parameters: str = ""
    note: str = ""


_DPO = "TRL DPOTrainer"
_OLD = "0.9.6 to 0.24"

SPELLINGS: Final = (
    Spelling(_DPO, "1.16.0", "loss_type: sigmoid", "dpo", "", "label_smoothing is ignored without a word."),
    Spelling(_DPO, "0.7.11 to 0.24", "loss_type: sigmoid, label_smoothing: e", "cdpo", "label_noise = e"),
    Spelling(_DPO, "1.16.0", "loss_type: hinge", "rso_hinge", "", "Default beta 0.1."),
    Spelling(_DPO, "1.16.0", "loss_type: ipo", "ipo_mean", "tau = beta", "Means over tokens, not the sums of ipo."),
    Spelling(
        _DPO,
        "0.20 to 0.24",
        "loss_type: [..., ipo, ...]",
        "",
        "",
        "One ipo in the list makes the log-probs of every loss in it means over tokens.",
    ),
    Spelling(_DPO, "1.16.0", "loss_type: exo_pair, label_smoothing: e", "exo", "label_noise = e", "An error at e = 0."),
    Spelling(_DPO, _OLD, "loss_type: exo_pair, label_smoothing: 0", "exo", "label_noise = 0.001"),
    Spelling(_DPO, "1.16.0", "loss_type: nca_pair", "nca", "", "Default beta 0.1, published 0.01."),
    Spelling(
        _DPO, "1.16.0", "loss_type: robust, label_smoothing: e", "robust_dpo", "label_noise = e", "Default e 0 is DPO."
    ),
    Spelling(
        _DPO,
        "1.16.0",
        "loss_type: bco_pair",
        "",
        "",
        "Not BCO: no reward shift. It is the Eurus objective minus DPO, so that in a list with at least as much "
        "sigmoid it has a counterpart.",
    ),
    Spelling(
        _DPO,
        _OLD,
        "loss_type: bco_pair",
        "bco",
        "",
        "The shift averages one mean per micro-batch, evaluation included.",
    ),
    Spelling(_DPO, "1.16.0", "loss_type: sppo_hard", "sppo_hard", "", "Default beta 0.1, published 0.001."),
    Spelling(
        _DPO, "1.16.0", "loss_type: aot", "aot", "", "Sorts each micro-batch; label_smoothing has no counterpart."
    ),
    Spelling(_DPO, "1.16.0", "loss_type: aot_unpaired", "aot_unpaired", "", "Sorts each micro-batch."),
    Spelling(_DPO, _OLD, "loss_type: aot_pair", "aot_unpaired", "", "In spite of its name."),
    Spelling(_DPO, "1.16.0", "loss_type: apo_zero", "apo_zero"),
    Spelling(_DPO, "1.16.0", "loss_type: apo_down", "apo_down"),
    Spelling(_DPO, "1.16.0", "loss_type: discopop, discopop_tau: t", "discopop", "tau = t", "Default beta 0.1."),
    Spelling(_DPO, "1.16.0", "loss_type: sft", "sft", "", "Token mean of each micro-batch."),
    Spelling(_DPO, "1.16.0", "loss_type: sigmoid_norm", "ln_dpo", "", "Default beta 0.1, published 2 to 5."),
    Spelling(_DPO, "1.16.0", "f_divergence_type: reverse_kl", "fdpo_reverse_kl"),
    Spelling(
        _DPO, "1.16.0", "loss_type: sigmoid, f_divergence_type: forward_kl", "fdpo_forward_kl", "", "Without the clamp."
    ),
    Spelling(_DPO, "1.16.0", "loss_type: sigmoid, f_divergence_type: js_divergence", "fdpo_js"),
    Spelling(
        _DPO,
        "1.16.0",
        "loss_type: sigmoid, f_divergence_type: alpha_divergence, f_alpha_divergence_coef: c",
        "fdpo_alpha",
        "alpha = 1 - c",
        "c = 1 is DPO.",
    ),
    Spelling(
        _DPO,
        _OLD,
        "f_divergence_type: alpha_divergence, f_alpha_divergence_coef: c",
        "fdpo_alpha",
        "alpha = c",
        "The other sense; default c 1, which is forward KL.",
    ),
    Spelling(_DPO, "1.16.0", "loss_type: sigmoid, ld_alpha: a", "ld_dpo", "alpha = a"),
    Spelling(_DPO, "0.19 to 0.24", "ld_alpha: a", "", "", "Weighs the policy's tokens only, not the reference's."),
    Spelling(_DPO, "1.16.0", "loss_type: sigmoid, use_weighting: true", "wpo", "", "The weight is not bounded by 1."),
    Spelling(_DPO, "0.12 to 0.24", "use_weighting: true", "wpo", "", "Also weighs the likelihood term of rpo_alpha."),
    Spelling(
        _DPO,
        "1.16.0",
        "sync_ref_model: true, ref_model_mixup_alpha: a, ref_model_sync_steps: n",
        "tr_dpo",
        "alpha = a, tau = n",
        "Defaults 0.6 and 512 (0.9 and 64 until 0.12); not with adapters.",
    ),
    Spelling(
        _DPO,
        "1.16.0",
        "loss_type: [sigmoid, sft], loss_weights: [1, a]",
        "dpo+sft",
        "dpo_weight = 1, sft_weight = a",
        "Not dpo_nll, whose likelihood is a mean per response. Weights are not normalised; one beta serves all losses.",
    ),
    Spelling(
        _DPO,
        "1.16.0",
        "loss_type: [sigmoid, bco_pair, sft], loss_weights: [0.8, 0.2, 1]",
        "dpo+eurus+sft",
        "dpo_weight = 0.6, eurus_weight = 0.2, sft_weight = 1",
        "Called MPO there, but its BCO part has no reward shift: mpo has.",
    ),
    Spelling(
        _DPO, "0.11 to 0.24", "rpo_alpha: a", "dpo+sft", "dpo_weight = 1, sft_weight = a", "Not rpo. Gone by 0.29."
    ),
    Spelling(_DPO, "0.9.6", "rpo_alpha: a", "dpo+sft", "dpo_weight = a, sft_weight = 1", "The weight is on DPO."),
    Spelling(_DPO, "0.7 to 0.24", "loss_type: sigmoid, reference_free: true", "cpo", "alpha = 0", "Gone by 0.29."),
    Spelling(
        _DPO, "0.7.11 to 0.8.6", "loss_type: kto_pair", "", "", "Its baseline comes from the other half of a pair."
    ),
    Spelling(
        _DPO,
        "1.16.0",
        "router_aux_loss_coef",
        "",
        "",
        "Mixture-of-experts models get their own coefficient's loss by default; 0 turns it off.",
    ),
    Spelling(
        "TRL KTOTrainer",
        "1.16.0",
        "loss_type: kto, desirable_weight: a, undesirable_weight: w",
        "kto",
        "lambda_desirable = a, lambda_undesirable = w",
        "The baseline is per micro-batch, from responses rotated in fixed blocks, which forbids shuffling.",
    ),
    Spelling(
        "TRL KTOTrainer",
        "1.16.0",
        "loss_type: apo_zero_unpaired",
        "apo_zero",
        "",
        "Half of it, on as many of each kind.",
    ),
    Spelling("TRL CPOTrainer", "1.16.0", "loss_type: sigmoid, cpo_alpha: a", "cpo", "alpha = a"),
    Spelling(
        "TRL CPOTrainer",
        "1.16.0",
        "loss_type: simpo, simpo_gamma: g, cpo_alpha: 0",
        "simpo",
        "gamma_beta_ratio = g / beta",
        "The default cpo_alpha is 1.0, which is not SimPO; the default g / beta is 5.",
    ),
    Spelling(
        "TRL CPOTrainer",
        "1.16.0",
        "loss_type: simpo, simpo_gamma: g, cpo_alpha: a",
        "cpo_simpo",
        "gamma_beta_ratio = g / beta, alpha = a",
    ),
    Spelling(
        "TRL CPOTrainer",
        "1.16.0",
        "loss_type: alphapo, alpha: a, simpo_gamma: g",
        "alpha_po",
        "gamma_beta_ratio = g / beta",
        "The default alpha is 0, which is SimPO. Without the clamp.",
    ),
    Spelling("TRL CPOTrainer", "1.16.0", "loss_type: ipo", "", "", "On means over tokens, without a reference."),
    Spelling(
        "TRL CPOTrainer",
        "1.16.0",
        "loss_type: hinge, cpo_alpha: 0",
        "slic_hf",
        "delta = 1 / beta, lambda_ref = 0",
        "Times beta.",
    ),
    Spelling(
        "TRL ORPOTrainer",
        "1.16.0",
        "beta: w",
        "orpo",
        "lambda_or = w",
        "Not equal: its likelihood term runs over prompt and response, as the token mean of the micro-batch.",
    ),
    Spelling("TRL TPOTrainer", "1.16.0", "loss_type: sigmoid, tpo_alpha: a", "tpo", "alpha = a"),
    Spelling("TRL TPOTrainer", "1.16.0", "loss_type: tpo-l, hinge or ipo", "", "", "Variants with other formulas."),
    Spelling(
        "TRL BCOTrainer",
        "0.11 to 0.29",
        "beta",
        "bco_unpaired",
        "",
        "Pools both kinds into one mean. With an embedding function it also weighs undesirable examples.",
    ),
    Spelling(
        "TRL OnlineDPOTrainer", "1.16.0", "loss_type: ipo", "ipo", "tau = beta", "Sums here, means in DPOTrainer."
    ),
    Spelling("TRL SFTTrainer", "1.16.0", "loss_type: nll, completions only", "sft"),
    Spelling("HALOs", "0398310b", "loss=dpo", "dpo"),
    Spelling("HALOs", "0594a024", "loss=cdpo, loss.epsilon=e", "cdpo", "label_noise = e", "Default e 0.2."),
    Spelling(
        "HALOs",
        "2f136e00",
        "loss=ipo",
        "ipo_mean",
        "",
        "Divides by the number of tokens whose reward is not 0, which is 0 at the start.",
    ),
    Spelling("HALOs", "f597fdd2", "loss=ipo", "ipo", "", "A mask that is never true: sums."),
    Spelling(
        "HALOs", "b498a827", "loss=simpo", "simpo", "", "Defaults beta 10, gamma_beta_ratio 0.3 (before: 2, 0.5)."
    ),
    Spelling("HALOs", "f597fdd2", "loss=simpo", "", "", "Sums and no margin."),
    Spelling("HALOs", "a52b5ee6", "loss=slic, loss.lambda_coef=w", "slic_hf", "delta = beta, lambda_ref = w"),
    Spelling(
        "HALOs",
        "031a5245",
        "loss=kto",
        "kto",
        "lambda_desirable, lambda_undesirable = the weights",
        "The baseline is per micro-batch; an older version sums the losses instead of averaging.",
    ),
    Spelling("HALOs", "a52b5ee6", "loss=orpo, OR_scale=w", "orpo", "lambda_or = w"),
    Spelling("LLaMA-Factory", "cc1a1b01", "pref_loss: sigmoid, pref_beta", "dpo", "beta = pref_beta"),
    Spelling("LLaMA-Factory", "cc1a1b01", "pref_loss: sigmoid, dpo_label_smoothing: e", "cdpo", "label_noise = e"),
    Spelling("LLaMA-Factory", "cc1a1b01", "pref_loss: sigmoid, pref_ftx: a", "dpo_nll", "alpha = a"),
    Spelling(
        "LLaMA-Factory",
        "cc1a1b01 with TRL 0.20 to 0.24",
        "pref_loss: ipo",
        "ln_dpo",
        "beta = pref_beta",
        "The loss type is not passed on: the sigmoid loss on means. With TRL until 0.19 it is ipo_mean.",
    ),
    Spelling(
        "LLaMA-Factory",
        "cc1a1b01 with TRL 0.20 to 0.24",
        "pref_loss: hinge or kto_pair",
        "dpo",
        "beta = pref_beta",
        "The loss type is not passed on. With TRL until 0.19 hinge is rso_hinge.",
    ),
    Spelling("LLaMA-Factory", "cc1a1b01", "pref_loss: orpo", "orpo", "lambda_or = pref_beta"),
    Spelling(
        "LLaMA-Factory",
        "cc1a1b01",
        "pref_loss: simpo, simpo_gamma: g",
        "simpo",
        "beta = pref_beta, gamma_beta_ratio = g / pref_beta",
        "The default g / pref_beta is 5.",
    ),
    Spelling(
        "LLaMA-Factory",
        "cc1a1b01",
        "pref_loss: simpo, pref_ftx: a",
        "",
        "",
        "Near cpo_simpo, with the mean per response as its likelihood.",
    ),
    Spelling(
        "LLaMA-Factory",
        "cc1a1b01",
        "pref_loss: sigmoid, pref_bco_weight: w",
        "dpo+bco",
        "dpo_weight = 1 / (1 + w), bco_weight = w / (1 + w)",
        "The shift averages one mean per micro-batch.",
    ),
    Spelling("LLaMA-Factory", "cc1a1b01", "ld_alpha: a", "", "", "Weighs the policy's tokens only."),
    Spelling(
        "LLaMA-Factory",
        "297e5e82",
        "stage: kto, kto_chosen_weight: a, kto_rejected_weight: w",
        "kto",
        "beta = pref_beta, lambda_desirable = a, lambda_undesirable = w",
        "The baseline is per micro-batch.",
    ),
    Spelling("LLaMA-Factory", "105d781f", "use_asft_loss: true", "", "", "Anchored fine-tuning: not our asft."),
    Spelling(
        "axolotl", "00a59d29", "rl: dpo, rl_beta", "dpo", "beta = rl_beta", "orpo_alpha is beta where none is set."
    ),
    Spelling("axolotl", "00a59d29", "rl: ipo, rl_beta", "ipo_mean", "tau = rl_beta"),
    Spelling(
        "axolotl",
        "00a59d29",
        "rl: kto, kto_desirable_weight: a, kto_undesirable_weight: w",
        "kto",
        "lambda_desirable = a, lambda_undesirable = w",
        "As TRL's; a weight of 0 becomes 1.",
    ),
    Spelling("axolotl", "00a59d29", "rl: orpo", "orpo", "lambda_or = orpo_alpha", "Not equal, as TRL's."),
    Spelling(
        "axolotl",
        "00a59d29",
        "rl: simpo, simpo_gamma: g, cpo_alpha: a",
        "cpo_simpo",
        "beta = rl_beta, gamma_beta_ratio = g / rl_beta, alpha = a",
        "cpo_alpha is 1.0 where it is not set; simpo_gamma must be.",
    ),
    Spelling(
        "axolotl",
        "00a59d29",
        "rl: dpo, dpo_label_smoothing: e",
        "",
        "",
        "cdpo with TRL until 0.24, ignored with TRL from 0.29.",
    ),
    Spelling("open-instruct", "008fc86d", "loss_type: dpo", "dpo"),
    Spelling("open-instruct", "008fc86d", "loss_type: dpo, label_smoothing: e", "cdpo", "label_noise = e"),
    Spelling("open-instruct", "008fc86d", "loss_type: dpo_norm", "ln_dpo", "", "Default beta 0.1."),
    Spelling("open-instruct", "008fc86d", "loss_type: simpo", "simpo", "", "Defaults beta 0.1, gamma_beta_ratio 0.3."),
    Spelling(
        "open-instruct",
        "008fc86d",
        "loss_type: wpo",
        "",
        "",
        "Weights with gradient and without the collision term, from means of sums.",
    ),
    Spelling("OpenRLHF", "f5b3f08a", "train_dpo --beta", "dpo"),
    Spelling("OpenRLHF", "f5b3f08a", "train_dpo --label_smoothing e", "cdpo", "label_noise = e", "Ignored with --ipo."),
    Spelling("OpenRLHF", "f5b3f08a", "train_dpo --ipo", "ipo", "tau = beta", "Sums, unlike TRL's."),
    Spelling("OpenRLHF", "39dfc6df", "train_dpo --nll_loss_coef a", "dpo_nll", "alpha = a"),
    Spelling(
        "OpenRLHF",
        "3fc857be",
        "train_kto --desirable_loss_weight a --undesirable_loss_weight w",
        "kto",
        "lambda_desirable = a, lambda_undesirable = w",
        "Default beta 0.01; the baseline is per micro-batch. At 06632404 both weights are ignored.",
    ),
    Spelling("SimPO", "15c4ff89", "loss_type: sigmoid, gamma_beta_ratio", "simpo", "", "Defaults 2.0 and 0.25."),
    Spelling("SimPO", "before 2024-07-08", "gamma: g", "simpo", "gamma_beta_ratio = g / beta", "From its README."),
    Spelling(
        "SimPO",
        "15c4ff89",
        "sft_weight: a",
        "cpo_simpo",
        "alpha = a",
    ),
    Spelling(
        "SimPO", "15c4ff89", "loss_type: hinge, or label_smoothing above 0", "", "", "Variants with other formulas."
    ),
)


def spellings_of(method: Method) -> Iterator[Spelling]:
    """Yield how peers ask for a method, alone or in a mixture."""
    for spelling in SPELLINGS:
        if method.name in spelling.ours.split("+"):
            yield spelling


def table(spellings: Iterator[Spelling] | tuple[Spelling, ...]) -> str:
    """Return spellings as a Markdown table."""
    rows = ["| peer | version | its spelling | here | hyper-parameters | what differs |", "|" + " --- |" * 6]
    for row in spellings:
        ours = f"`{row.ours}`" if row.ours else "none"
        cells = (row.peer, row.version, f"`{row.asked}`", ours, row.parameters, row.note)
        rows.append("|" + "".join(f" {cell} |" if cell else " |" for cell in cells))
    return "\n".join(rows)
