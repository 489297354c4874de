"""CPO-SimPO: SimPO with CPO's likelihood term."""

from dataclasses import dataclass

import torch.nn.functional as F

from preflab.core.domains import NON_NEGATIVE, POSITIVE, Hyperparameters, hyper
from preflab.core.sources import Source
from preflab.methods._ops import aligned
from preflab.methods._types import Invariances, LossOutput, Method, Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class CPOSimPOHyperparameters(Hyperparameters):
    """Hyper-parameters of CPO-SimPO."""

    beta: float = hyper(
        10.0,
        domain=POSITIVE,
        grid=(10.0,),
        unit="1/(nat/token)",
        doc="Scale of the difference of per-token log-probs.",
        log_scale=True,
    )
    gamma_beta_ratio: float = hyper(
        0.54,
        domain=NON_NEGATIVE,
        grid=(0.54,),
        unit="nat/token",
        doc="Target margin divided by beta.",
    )
    alpha: float = hyper(
        0.05,
        domain=NON_NEGATIVE,
        grid=(0.05,),
        unit="",
        doc="Weight of the negative log-likelihood per token of the chosen responses; 0 is SimPO.",
        log_scale=True,
    )


def cpo_simpo_loss(batch: Pair, *, beta: float, gamma_beta_ratio: float, alpha: float) -> LossOutput:
    """SimPO's margin plus the likelihood of the chosen response.

    loss_i = -log sigma(beta * (m - gamma_beta_ratio)) - alpha * log pi(chosen) / (mean chosen length)
    m = log pi(chosen) / |chosen| - log pi(rejected) / |rejected|

    Args:
        batch: sequence log-probs, float32 [pair], nats, with lengths in tokens; response tokens only.
        beta: scale of the margin, 1/(nat/token), (0, inf).
        gamma_beta_ratio: target margin over beta, nats/token, [0, inf).
        alpha: weight of the likelihood term, [0, inf).

    Returns:
        loss [pair]; rewards [pair] = beta * log-prob per token, detached. Where the margin of the mean log-probs is
        gamma_beta_ratio, the first term is log 2. Averaged over the batch the second is the mean over its chosen
        tokens, so an example's loss depends on the lengths beside it.

    References:
        Xu et al., CPO-SimPO, 2024, code at https://github.com/fe1ixxu/CPO_SIMPO, on arXiv:2401.08417 and
        arXiv:2405.14734. TRL's CPO trainer with loss `simpo` and a `cpo_alpha` above 0 is the same
        within a micro-batch.
    """
    aligned(*batch)
    chosen, rejected = beta * batch.chosen.mean, beta * batch.rejected.mean
    nll = -batch.chosen.total / batch.chosen.length.mean()
    loss = -F.logsigmoid(chosen - rejected - beta * gamma_beta_ratio) + alpha * nll
    return LossOutput(loss, chosen.detach(), rejected.detach())


CPO_SIMPO = Method(
    name="cpo_simpo",
    title="CPO-SimPO",
    summary="SimPO that also keeps the chosen response likely.",
    inputs=Pair,
    loss=cpo_simpo_loss,
    hyperparameters=CPOSimPOHyperparameters,
    loss_at_reference=None,
    learning_rates=(1e-6,),
    invariances=Invariances(batch_split=False),
    source=Source(
        paper="Xu et al., 2024",
        title="CPO-SimPO: combining CPO and SimPO",
        arxiv="",
        equation="the authors' code",
        claim="On Llama-3-8B-Instruct it reaches 46.9 % on AlpacaEval 2 (length-controlled), against 43.3 % for "
        "SimPO and 36.1 % for CPO in the same runs.",
        bibtex="""@misc{xu2024cposimpo,
  title = {{CPO-SimPO}: combining {CPO} and {SimPO}},
  author = {Xu, Haoran and others},
  year = {2024},
  url = {https://github.com/fe1ixxu/CPO_SIMPO}
}""",
        url="https://github.com/fe1ixxu/CPO_SIMPO",
        note="Published as code only, with a token mean of the batch. TRL's `cpo_alpha` defaults to 1.0, which "
        "turns its SimPO into this method with another weight. LLaMA-Factory takes the mean per response.",
    ),
)
