"""RainbowPO: per-token margins against a mixture of the reference and a constant margin."""

from dataclasses import dataclass

import torch.nn.functional as F

from preflab.core.domains import NON_NEGATIVE, POSITIVE, UNIT_INTERVAL, Hyperparameters, hyper
from preflab.core.sources import Source
from preflab.methods._ops import aligned
from preflab.methods._types import Invariances, LossOutput, Method, ReferencedPair


@dataclass(frozen=True, slots=True, kw_only=True)
class RainbowPOHyperparameters(Hyperparameters):
    """Hyper-parameters of RainbowPO."""

    beta: float = hyper(
        10.0,
        domain=POSITIVE,
        grid=(10.0,),
        unit="token/nat",
        doc="Scale of the difference per token, as in LN-DPO and SimPO: not comparable with DPO's.",
        log_scale=True,
    )
    alpha: float = hyper(
        0.5,
        domain=UNIT_INTERVAL,
        grid=(0.5,),
        unit="",
        doc="Share of the reference model: 1 with no margin is LN-DPO, 0 is SimPO.",
    )
    gamma: float = hyper(
        0.1,
        domain=NON_NEGATIVE,
        grid=(0.1,),
        unit="nat/token",
        doc="Constant margin that stands in for the rest of the reference.",
    )


def rainbow_po_loss(batch: ReferencedPair, *, beta: float, alpha: float, gamma: float) -> LossOutput:
    """Logistic loss of the per-token margin, of which the reference's part is mixed with a constant.

    loss = -log sigma(beta * (m_pi - alpha * m_ref - (1 - alpha) * gamma))
    m = log p(chosen) / |chosen| - log p(rejected) / |rejected|

    Args:
        batch: sequence log-probs, float32 [pair], nats; response tokens only.
        beta: strength of the tie to the reference, 1/nat, (0, inf).
        alpha: share of the reference, [0, 1].
        gamma: constant margin, nats/token, [0, inf).

    Returns:
        loss [pair], nats; rewards [pair] = beta * (policy mean - alpha * reference mean), detached. At policy ==
        reference with alpha = 1 the loss is log 2.

    References:
        Zhao et al., RainbowPO: A Unified Framework for Combining Improvements in Preference Optimization, 2024,
        arXiv:2410.04203, mixed reference policy.
    """
    aligned(*batch.policy, *batch.reference)
    chosen = beta * (batch.policy.chosen.mean - alpha * batch.reference.chosen.mean)
    rejected = beta * (batch.policy.rejected.mean - alpha * batch.reference.rejected.mean)
    loss = -F.logsigmoid(chosen - rejected - beta * (1 - alpha) * gamma)
    return LossOutput(loss, chosen.detach(), rejected.detach())


def rainbow_po_at_reference(batch: ReferencedPair, *, beta: float, alpha: float, gamma: float) -> float:
    """Mean of -log sigma(beta * (1 - alpha) * (m_ref - gamma))."""
    margin = batch.reference.chosen.mean - batch.reference.rejected.mean
    return float(-F.logsigmoid(beta * (1 - alpha) * (margin - gamma)).mean())


RAINBOW_PO = Method(
    name="rainbow_po",
    title="RainbowPO",
    summary="Per-token margins against a blend of the reference and a constant: between SimPO and LN-DPO.",
    inputs=ReferencedPair,
    loss=rainbow_po_loss,
    hyperparameters=RainbowPOHyperparameters,
    loss_at_reference=rainbow_po_at_reference,
    learning_rates=(3e-7, 5e-7, 7e-7, 1e-6),
    invariances=Invariances(),
    source=Source(
        paper="Zhao et al., 2024",
        title="RainbowPO: A Unified Framework for Combining Improvements in Preference Optimization",
        arxiv="2410.04203",
        equation="mixed reference policy",
        claim="Sorts what DPO's variants add into seven directions; those that help, put into one objective, "
        "outperform the variants.",
        bibtex="""@inproceedings{zhao2025rainbowpo,
  title = {{RainbowPO}: A Unified Framework for Combining Improvements in Preference Optimization},
  author = {Zhao, Hanyang and Winata, Genta Indra and Das, Anirban and Zhang, Shi-Xiong and Yao, David D. and
            Tang, Wenpin and Sahu, Sambit},
  booktitle = {International Conference on Learning Representations},
  year = {2025},
  eprint = {2410.04203},
  archivePrefix = {arXiv}
}""",
        note="The loss only; the paper also combines warm-up and rejection sampling. No learning rate of its own is "
        "known here; DPO's stand in. The defaults of alpha and gamma are this project's.",
    ),
)
