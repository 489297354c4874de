"""Print what the trainers of trl 1.16.0 compute on the peer batch of the tests.

Their loss functions run as they stand, on stand-ins for the model: every token of a response has the same share of its
total, over a vocabulary of two tokens where whole distributions matter.
"""

import contextlib
import importlib.metadata
from collections import defaultdict
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import torch
from batch import (
    CHOSEN_LENGTH,
    GOLD_LENGTH,
    POLICY_CHOSEN,
    POLICY_GOLD,
    POLICY_MISMATCHED,
    POLICY_REJECTED,
    REFERENCE_CHOSEN,
    REFERENCE_MISMATCHED,
    REFERENCE_REJECTED,
    REJECTED_LENGTH,
    report,
)
from torch import Tensor
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.experimental.tpo import TPOTrainer
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_trainer import KTOTrainer

VERSION = "1.16.0"
LONGEST = 20
PAIRS = (torch.cat([POLICY_CHOSEN, POLICY_REJECTED]), torch.cat([CHOSEN_LENGTH, REJECTED_LENGTH]))


class Accelerator:
    """One process on a CPU."""

    device = "cpu"

    def gather_for_metrics(self, values: Tensor) -> Tensor:
        """Return the values: there is nothing to gather."""
        return values

    gather = gather_for_metrics

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """Return a context that does nothing."""
        return contextlib.nullcontext()


def spread(totals: Tensor, lengths: Tensor) -> Tensor:
    """Return log-probs per token, [response, LONGEST], zero behind the response."""
    said = [torch.arange(LONGEST) < n for n in lengths]
    return torch.stack([torch.where(s, t / n, 0.0) for s, t, n in zip(said, totals, lengths, strict=True)])


def mask(lengths: Tensor) -> Tensor:
    """Return which positions are completion tokens, with one prompt token before them."""
    return torch.stack([(torch.arange(LONGEST + 1) >= 1) & (torch.arange(LONGEST + 1) <= n) for n in lengths]).long()


def inputs(totals: Tensor, lengths: Tensor, **more: Any) -> dict[str, Any]:
    """Return what a data collator would give."""
    ids = torch.zeros(len(totals), LONGEST + 1, dtype=torch.long)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "completion_mask": mask(lengths), **more}


def model_with(totals: Tensor, lengths: Tensor) -> MagicMock:
    """Return a model that gives these log-probs, over a vocabulary of two tokens of which token 0 is said."""
    token = spread(totals, lengths)
    other = torch.log1p(-torch.exp(token.clamp(max=-1e-9)))
    output = MagicMock()
    output.log_probs = token
    output.log_sum_sq_probs = torch.logsumexp(torch.stack([2 * token, 2 * other]), dim=0)
    output.logits = torch.nn.functional.pad(torch.stack([token, other], dim=-1), (0, 0, 0, 1))
    output.entropy = output.mean_logits = torch.zeros_like(token)
    output.is_top1 = torch.zeros_like(token, dtype=torch.bool)
    model = MagicMock(return_value=output)
    model.training = False
    return model


def dpo(loss_type: str, beta: float, *, dtype: torch.dtype = torch.float64, **settings: Any) -> float:
    """Return the mean loss of DPOTrainer."""
    model = model_with(PAIRS[0].to(dtype), PAIRS[1].to(dtype))
    trainer = SimpleNamespace(
        model=model,
        accelerator=Accelerator(),
        args=SimpleNamespace(gradient_checkpointing_kwargs=None, discopop_tau=settings.pop("discopop_tau", 0.05)),
        state=SimpleNamespace(num_input_tokens_seen=0),
        loss_types=[loss_type],
        loss_weights=[1.0],
        beta=beta,
        **{
            "aux_loss_enabled": False,
            "ld_alpha": None,
            "precompute_ref_logps": True,
            "f_divergence_type": "reverse_kl",
            "label_smoothing": 0.0,
            "use_weighting": False,
            "_metrics": {"eval": defaultdict(list)},
            "_total_train_tokens": 0,
            **settings,
        },
    )
    reference = model_with(torch.cat([REFERENCE_CHOSEN, REFERENCE_REJECTED]).to(dtype), PAIRS[1].to(dtype))
    trainer.ref_model = trainer.model = reference
    chosen, rejected = DPOTrainer.compute_ref_log_probs(trainer, reference, inputs(*PAIRS))
    trainer.model = model
    known = {"ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
    return float(DPOTrainer._compute_loss(trainer, model, inputs(*PAIRS, **known), False))


def kto(beta: float) -> float:
    """Return the mean loss of KTOTrainer."""
    trainer = MagicMock()
    trainer.model = model_with(*PAIRS)
    trainer.accelerator = Accelerator()
    trainer.aux_loss_enabled, trainer.precompute_ref_logps, trainer.calculate_KL = False, True, True
    trainer.loss_type, trainer.beta, trainer.desirable_weight, trainer.undesirable_weight = "kto", beta, 1.0, 1.33
    trainer._metrics = {"eval": defaultdict(list)}
    trainer._compute_kl_logps = lambda model, batch: POLICY_MISMATCHED
    known = {
        "label": torch.tensor([1, 1, 1, 0, 0, 0]),
        "ref_logps": torch.cat([REFERENCE_CHOSEN, REFERENCE_REJECTED]),
        "ref_KL_logps": REFERENCE_MISMATCHED,
    }
    return float(KTOTrainer._compute_loss(trainer, trainer.model, inputs(*PAIRS, **known), False))


def tpo(beta: float, alpha: float) -> float:
    """Return the mean loss of TPOTrainer."""
    totals, lengths = torch.cat([PAIRS[0], POLICY_GOLD]), torch.cat([PAIRS[1], GOLD_LENGTH])
    trainer = MagicMock()
    trainer.model = model_with(totals, lengths)
    trainer.accelerator = Accelerator()
    trainer.loss_type, trainer.beta, trainer.tpo_alpha, trainer.label_smoothing = "sigmoid", beta, alpha, 0.0
    trainer._metrics = {"eval": defaultdict(list)}
    return float(TPOTrainer._compute_loss(trainer, trainer.model, inputs(totals, lengths), False))


def cpo(loss_type: str, beta: float, chosen: Tensor, rejected: Tensor, **settings: Any) -> Tensor:
    """Return the preference losses of CPOTrainer, [pair]."""
    trainer = SimpleNamespace(
        loss_type=loss_type, beta=beta, accelerator=Accelerator(), **{"alpha": 0.0, "label_smoothing": 0.0, **settings}
    )
    losses: Tensor = CPOTrainer.cpo_loss(trainer, chosen, rejected)[0]
    return losses


def main() -> None:
    """Print one line per method."""
    for name, loss_type, beta, settings in (
        ("dpo", "sigmoid", 0.1, {}),
        ("ipo_mean", "ipo", 0.1, {}),
        ("ln_dpo", "sigmoid_norm", 5.0, {}),
        ("sft", "sft", 0.1, {}),
        ("robust_dpo", "robust", 0.1, {"label_smoothing": 0.1}),
        ("rso_hinge", "hinge", 0.1, {}),
        ("nca", "nca_pair", 0.01, {}),
        ("exo", "exo_pair", 0.1, {"label_smoothing": 0.001}),
        ("sppo_hard", "sppo_hard", 0.001, {}),
        ("discopop", "discopop", 0.05, {"discopop_tau": 0.05}),
        ("apo_zero", "apo_zero", 0.1, {}),
        ("apo_down", "apo_down", 0.1, {}),
        ("aot", "aot", 0.1, {}),
        ("aot_unpaired", "aot_unpaired", 0.1, {}),
        ("fdpo_reverse_kl", "sigmoid", 0.1, {"f_divergence_type": "reverse_kl"}),
        ("fdpo_forward_kl", "sigmoid", 0.1, {"f_divergence_type": "forward_kl"}),
        ("fdpo_js", "sigmoid", 0.1, {"f_divergence_type": "js_divergence"}),
        ("ld_dpo", "sigmoid", 0.1, {"ld_alpha": 0.5}),
        ("wpo", "sigmoid", 0.01, {"use_weighting": True}),
        ("tr_dpo", "sigmoid", 0.05, {}),
    ):
        report(name, dpo(loss_type, beta, **settings))
    # Its bound on the exponent is known for float32 alone.
    alpha = {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.5}
    report("fdpo_alpha", dpo("sigmoid", 0.1, dtype=torch.float32, **alpha))
    report("kto", kto(0.1))
    report("tpo", tpo(0.01, 1.0))
    chosen, rejected = POLICY_CHOSEN / CHOSEN_LENGTH, POLICY_REJECTED / REJECTED_LENGTH
    ratios = POLICY_CHOSEN - REFERENCE_CHOSEN, POLICY_REJECTED - REFERENCE_REJECTED
    report("cdpo", cpo("sigmoid", 0.1, *ratios, label_smoothing=0.1).mean())
    report("ipo", cpo("ipo", 0.1, *ratios).mean())
    preference = cpo("sigmoid", 0.1, POLICY_CHOSEN, POLICY_REJECTED).mean()
    likelihood = -POLICY_CHOSEN.sum() / CHOSEN_LENGTH.sum()
    report("cpo", preference + likelihood)
    report("slic_hf", cpo("hinge", 1.0, POLICY_CHOSEN, POLICY_REJECTED).mean())
    report("simpo", cpo("simpo", 2.0, chosen, rejected, simpo_gamma=1.0).mean())
    report("cpo_simpo", cpo("simpo", 10.0, chosen, rejected, simpo_gamma=5.4).mean() + 0.05 * likelihood)
    trainer = SimpleNamespace(beta=0.1, accelerator=Accelerator())
    report("orpo", -ORPOTrainer.odds_ratio_loss(trainer, chosen, rejected)[0].double().mean() - chosen.mean())


if __name__ == "__main__":
    assert importlib.metadata.version("trl") == VERSION
    main()
