"""NCA: noise contrastive alignment of pairs."""

import math
from dataclasses import dataclass

import torch.nn.functional as F

from preflab.core.domains import Hyperparameters
from preflab.core.sources import Source
from preflab.methods._hyper import tie
from preflab.methods._ops import log_ratios
from preflab.methods._types import Invariances, LossOutput, Method, ReferencedPair


@dataclass(frozen=True, slots=True, kw_only=True)
class NCAHyperparameters(Hyperparameters):
    """Hyper-parameters of NCA."""

    beta: float = tie(0.01, grid=(0.01,))


def nca_loss(batch: ReferencedPair, *, beta: float) -> LossOutput:
    """Noise contrastive estimation of the optimal policy: each response against the reference, by its absolute reward.

    loss = -log sigma(r_chosen) - 0.5 * log sigma(-r_chosen) - 0.5 * log sigma(-r_rejected)
    r_y = beta * log pi/ref (y)

    The gradient in r_chosen is sigma(r) - 1 + sigma(r) / 2, which vanishes at sigma(r) = 2/3: the chosen reward is
    drawn to log 2, not to infinity.

    Args:
        batch: sequence log-probs, float32 [pair], nats; response tokens only.
        beta: strength of the tie to the reference, 1/nat, (0, inf).

    Returns:
        loss [pair], nats; rewards [pair] = beta * log-ratio, detached. At policy == reference the loss is 2 log 2.

    References:
        Chen et al., Noise Contrastive Alignment of Language Models with Explicit Rewards, 2024, arXiv:2402.05369,
        objective with two responses and hard labels. TRL's `nca_pair` is the same.
    """
    chosen_ratio, rejected_ratio = log_ratios(batch)
    chosen, rejected = beta * chosen_ratio, beta * rejected_ratio
    loss = -F.logsigmoid(chosen) - 0.5 * F.logsigmoid(-chosen) - 0.5 * F.logsigmoid(-rejected)
    return LossOutput(loss, chosen.detach(), rejected.detach())


def nca_at_reference(batch: ReferencedPair, *, beta: float) -> float:
    """2 log(2)."""
    return 2 * math.log(2)


NCA = Method(
    name="nca",
    title="NCA",
    summary="Judges each response against the reference on its own, which keeps the chosen likelihood from falling.",
    inputs=ReferencedPair,
    loss=nca_loss,
    hyperparameters=NCAHyperparameters,
    loss_at_reference=nca_at_reference,
    learning_rates=(5e-6,),
    invariances=Invariances(constant_shift=True),
    source=Source(
        paper="Chen et al., 2024",
        title="Noise Contrastive Alignment of Language Models with Explicit Rewards",
        arxiv="2402.05369",
        equation="objective",
        bibtex="""@inproceedings{chen2024noise,
  title = {Noise Contrastive Alignment of Language Models with Explicit Rewards},
  author = {Chen, Huayu and He, Guande and Yuan, Lifan and Cui, Ganqu and Su, Hang and Zhu, Jun},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2024},
  eprint = {2402.05369},
  archivePrefix = {arXiv}
}""",
    ),
)
