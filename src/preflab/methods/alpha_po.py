"""AlphaPO: SimPO with a bent reward."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from preflab.core.domains import NON_NEGATIVE, POSITIVE, Domain, Hyperparameters, hyper
from preflab.core.sources import Source
from preflab.methods._hyper import largest_exponent
from preflab.methods._ops import aligned
from preflab.methods._types import Invariances, LossOutput, Method, Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class AlphaPOHyperparameters(Hyperparameters):
    """Hyper-parameters of AlphaPO."""

    beta: float = hyper(
        2.5,
        domain=POSITIVE,
        grid=(2.5,),
        unit="1/(nat/token)",
        doc="Scale of the difference of rewards.",
        log_scale=True,
    )
    gamma_beta_ratio: float = hyper(
        0.1,
        domain=NON_NEGATIVE,
        grid=(0.1,),
        unit="nat/token",
        doc="Target margin divided by beta.",
    )
    alpha: float = hyper(
        0.25,
        domain=Domain(-10.0, 10.0, low_open=False, high_open=False),
        grid=(0.25,),
        unit="",
        doc="Bend of the reward; 0 is SimPO, above 0 unlikely responses are pushed down harder.",
    )
    clamp: float = largest_exponent("TRL 1.16 has no bound here.")


def alpha_po_loss(batch: Pair, *, beta: float, gamma_beta_ratio: float, alpha: float, clamp: float) -> LossOutput:
    """SimPO whose reward is a power of the per-token probability instead of its logarithm.

    loss = -log sigma(beta * (r(chosen) - r(rejected) - gamma_beta_ratio))
    r(y) = (1 - exp(-alpha * m_y)) / alpha,  m_y = log pi(y) / |y|

    exp(-alpha m) = 1 - alpha m + O(alpha^2), so r tends to m, SimPO's reward, as alpha goes to 0; at 0 it is m.

    Args:
        batch: sequence log-probs, float32 [pair], nats, with lengths in tokens; response tokens only.
        beta: scale of the margin, 1/(nat/token), (0, inf).
        gamma_beta_ratio: target margin over beta, nats/token, [0, inf).
        alpha: bend of the reward, [-10, 10].
        clamp: largest exponent, nats, (0, inf).

    Returns:
        loss [pair], nats; rewards [pair] = beta * r, detached. Where the margin of the rewards r is
        gamma_beta_ratio, the loss is log 2.

    References:
        Gupta et al., AlphaPO: Reward Shape Matters for LLM Alignment, 2025, arXiv:2501.03884, objective.
    """
    aligned(*batch)
    chosen = beta * _reward(batch.chosen.mean, alpha, clamp)
    rejected = beta * _reward(batch.rejected.mean, alpha, clamp)
    clamped = torch.maximum(-alpha * batch.chosen.mean, -alpha * batch.rejected.mean) > clamp
    loss = -F.logsigmoid(chosen - rejected - beta * gamma_beta_ratio)
    return LossOutput(loss, chosen.detach(), rejected.detach(), clamped=clamped)


def _reward(mean: Tensor, alpha: float, clamp: float) -> Tensor:
    """Return the bent reward of per-token log-probs, any shape; `expm1` keeps its digits for small alpha."""
    return mean if alpha == 0 else -torch.expm1((-alpha * mean).clamp(max=clamp)) / alpha


ALPHA_PO = Method(
    name="alpha_po",
    title="AlphaPO",
    summary="SimPO with one more parameter that decides how hard unlikely responses are pushed down.",
    inputs=Pair,
    loss=alpha_po_loss,
    hyperparameters=AlphaPOHyperparameters,
    loss_at_reference=None,
    learning_rates=(7e-7,),
    invariances=Invariances(),
    source=Source(
        paper="Gupta et al., 2025",
        title="AlphaPO: Reward Shape Matters for LLM Alignment",
        arxiv="2501.03884",
        equation="objective",
        claim="Bending the reward improves alignment by about 7 to 10 %, relative to SimPO, for "
        "instruction-tuned Mistral 7B and Llama 3 8B.",
        bibtex="""@inproceedings{gupta2025alphapo,
  title = {{AlphaPO}: Reward Shape Matters for {LLM} Alignment},
  author = {Gupta, Aman and Tang, Shao and Song, Qingquan and Zhu, Sirou and Hong, Jiwoo and Saha, Ankan and
            Gupta, Viral and Lee, Noah and Kim, Eunki and Zhu, Siyu and Agrawal, Parag and Pillai, Natesh and
            Keerthi, S. Sathiya},
  booktitle = {Proceedings of the 42nd International Conference on Machine Learning},
  year = {2025},
  eprint = {2501.03884},
  archivePrefix = {arXiv}
}""",
        note="The exponential is of the log-prob per token; TRL's CPO trainer takes it of the sum unless the loss is "
        "simpo, which overflows.",
    ),
)
