"""ASFT: aligned supervised fine-tuning."""

from dataclasses import dataclass

from preflab.core.domains import NON_NEGATIVE, Hyperparameters, hyper
from preflab.core.sources import Source
from preflab.methods._ops import aligned, log1mexp, log_odds
from preflab.methods._types import Invariances, LossOutput, Method, Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class ASFTHyperparameters(Hyperparameters):
    """Hyper-parameters of ASFT."""

    lambda_asft: float = hyper(
        0.1,
        domain=NON_NEGATIVE,
        grid=(0.1,),
        unit="",
        doc="Weight of the absolute-likelihood terms; 0 leaves fine-tuning per response.",
        log_scale=True,
    )


def asft_loss(batch: Pair, *, lambda_asft: float) -> LossOutput:
    """Likelihood of the chosen response, plus two pointwise terms on the odds of each response.

    loss = -log pi(chosen) / |chosen| - lambda_asft * (log sigma(log_odds(chosen)) + log sigma(-log_odds(rejected)))
    log_odds(y) = log(p / (1 - p)),  p = exp(log pi(y) / |y|)

    sigma(log_odds) = p, so the alignment part is -log p_chosen - log(1 - p_rejected), which is how it is computed.

    Args:
        batch: sequence log-probs, float32 [pair], nats, with lengths in tokens; response tokens only.
        lambda_asft: weight of the alignment terms, [0, inf).

    Returns:
        loss [pair]; rewards [pair] = log odds, detached. Finite also where the per-token probability rounds to 1.
        Where every token has probability 1/2 the loss is log 2 + lambda_asft * 2 log 2.

    References:
        Wang et al., ASFT: Aligned Supervised Fine-Tuning through Absolute Likelihood, 2024, arXiv:2409.10571, as
        restated in arXiv:2502.01237 with the likelihood per token.
    """
    aligned(*batch)
    alignment = batch.chosen.mean + log1mexp(batch.rejected.mean)
    loss = -batch.chosen.mean - lambda_asft * alignment
    return LossOutput(loss, log_odds(batch.chosen.mean).detach(), log_odds(batch.rejected.mean).detach())


ASFT = Method(
    name="asft",
    title="ASFT",
    summary="Fine-tunes on the chosen response and judges each response's probability on its own, without a reference.",
    inputs=Pair,
    loss=asft_loss,
    hyperparameters=ASFTHyperparameters,
    loss_at_reference=None,
    learning_rates=(5e-7, 7e-7),
    invariances=Invariances(),
    source=Source(
        paper="Wang et al., 2024",
        title="ASFT: Aligned Supervised Fine-Tuning through Absolute Likelihood",
        arxiv="2409.10571",
        equation="as restated in arXiv:2502.01237",
        claim="Treating each response's likelihood on its own lessens DPO's habit of pushing the rejected one "
        "down faster than it pulls the chosen one up.",
        bibtex="""@misc{wang2024asft,
  title = {{ASFT}: Aligned Supervised Fine-Tuning through Absolute Likelihood},
  author = {Wang, Ruoyu and Sun, Jiachen and Hua, Shaowei and Fang, Quan},
  year = {2024},
  eprint = {2409.10571},
  archivePrefix = {arXiv}
}""",
        note="The likelihood term is per token here, as in ORPO; a sum would change the effective weight of the "
        "alignment terms.",
    ),
)
