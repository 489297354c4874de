"""SimPO: simple preference optimisation with a reference-free reward."""

from dataclasses import dataclass

import torch.nn.functional as F

from preflab.core.domains import NON_NEGATIVE, POSITIVE, Hyperparameters, hyper
from preflab.core.sources import Source
from preflab.methods._ops import aligned
from preflab.methods._types import Invariances, LossOutput, Method, Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class SimPOHyperparameters(Hyperparameters):
    """Hyper-parameters of SimPO."""

    beta: float = hyper(
        2.0,
        domain=POSITIVE,
        grid=(2.0, 2.5, 10.0),
        unit="token/nat",
        doc="Reward scale on the mean log-prob. Not comparable with the beta of DPO.",
        log_scale=True,
    )
    gamma_beta_ratio: float = hyper(
        0.5,
        domain=NON_NEGATIVE,
        grid=(0.1, 0.3, 0.5, 0.8),
        unit="nat/token",
        doc="Target margin divided by beta; 0 removes the margin.",
    )


def simpo_loss(batch: Pair, *, beta: float, gamma_beta_ratio: float) -> LossOutput:
    """Logistic loss of the margin between mean log-probs, less a target margin.

    loss = -log sigma(beta * (log pi(chosen) / |chosen| - log pi(rejected) / |rejected| - gamma_beta_ratio))

    Args:
        batch: sequence log-probs, float32 [pair], nats, with lengths in tokens; response tokens only.
        beta: reward scale, token/nat, (0, inf).
        gamma_beta_ratio: target margin gamma divided by beta, nat/token, [0, inf).

    Returns:
        loss [pair], nats; rewards [pair] = beta * mean log-prob, detached. There is no reference. Where
        the margin of the mean log-probs is gamma / beta, the loss is log 2.

    References:
        Meng, Xia and Chen, SimPO: Simple Preference Optimization with a Reference-Free Reward, 2024, arXiv:2405.14734,
        eq. 6. The paper's gamma is beta * gamma_beta_ratio; its code and tuning advice use the ratio. TRL's
        `simpo_gamma` is the paper's gamma, and its `cpo_alpha` must be 0 to get SimPO.
    """
    aligned(*batch)
    margin = batch.chosen.mean - batch.rejected.mean
    loss = -F.logsigmoid(beta * (margin - gamma_beta_ratio))
    return LossOutput(loss, (beta * batch.chosen.mean).detach(), (beta * batch.rejected.mean).detach())


SIMPO = Method(
    name="simpo",
    title="SimPO",
    summary="Separates the mean log-probs of the pair by a target margin, without a reference model.",
    inputs=Pair,
    loss=simpo_loss,
    hyperparameters=SimPOHyperparameters,
    loss_at_reference=None,
    learning_rates=(3e-7, 5e-7, 6e-7, 8e-7, 1e-6),
    invariances=Invariances(),
    source=Source(
        paper="Meng, Xia and Chen, 2024",
        title="SimPO: Simple Preference Optimization with a Reference-Free Reward",
        arxiv="2405.14734",
        equation="6",
        claim="Outperforms DPO by up to 6.4 points on AlpacaEval 2 and 7.5 on Arena-Hard without much longer answers.",
        bibtex="""@inproceedings{meng2024simpo,
  title = {{SimPO}: Simple Preference Optimization with a Reference-Free Reward},
  author = {Meng, Yu and Xia, Mengzhou and Chen, Danqi},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {37},
  year = {2024},
  eprint = {2405.14734},
  archivePrefix = {arXiv}
}""",
        note="Parametrised by gamma/beta as in the authors' code; the paper's gamma is the product. TRL's CPO trainer "
        "takes gamma and adds a likelihood term unless cpo_alpha is 0.",
    ),
)
