"""ORPO: odds ratio preference optimisation."""

from dataclasses import dataclass

import torch.nn.functional as F

from preflab.core.domains import NON_NEGATIVE, Hyperparameters, hyper
from preflab.core.sources import Source
from preflab.methods._ops import aligned, log_odds
from preflab.methods._types import Invariances, LossOutput, Method, Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class ORPOHyperparameters(Hyperparameters):
    """Hyper-parameters of ORPO."""

    lambda_or: float = hyper(
        0.1,
        domain=NON_NEGATIVE,
        grid=(0.1, 0.5, 1.0, 2.0),
        unit="",
        doc="Weight of the odds-ratio term beside the likelihood term; 0 leaves fine-tuning per response.",
        log_scale=True,
    )


def orpo_loss(batch: Pair, *, lambda_or: float) -> LossOutput:
    """Likelihood of the chosen response plus a logistic loss of the log odds ratio.

    loss = -log pi(chosen) / |chosen| - lambda_or * log sigma(log_odds(chosen) - log_odds(rejected))
    log_odds(y) = log(p / (1 - p)),  p = exp(log pi(y) / |y|)

    Args:
        batch: sequence log-probs, float32 [pair], nats, with lengths in tokens; response tokens only.
        lambda_or: weight of the odds-ratio term, [0, inf).

    Returns:
        loss [pair]; rewards [pair] = log odds, detached. Finite also where the per-token probability rounds to 1.
        Where every token has probability 1/2 both odds are 1 and the loss is log 2 + lambda_or * log 2.

    References:
        Hong, Lee and Thorne, ORPO: Monolithic Preference Optimization without Reference Model, 2024, arXiv:2403.07691,
        eq. 6 and 7. The authors' code and TRL take the likelihood over prompt and response and over all tokens of
        the micro-batch; here it covers the response, per sequence, as the equations read.
    """
    aligned(*batch)
    chosen, rejected = log_odds(batch.chosen.mean), log_odds(batch.rejected.mean)
    loss = -batch.chosen.mean - lambda_or * F.logsigmoid(chosen - rejected)
    return LossOutput(loss, chosen.detach(), rejected.detach())


ORPO = Method(
    name="orpo",
    title="ORPO",
    summary="Fine-tunes on the chosen response and, in the same loss, raises its odds against the rejected one.",
    inputs=Pair,
    loss=orpo_loss,
    hyperparameters=ORPOHyperparameters,
    loss_at_reference=None,
    learning_rates=(5e-6, 8e-6),
    invariances=Invariances(),
    source=Source(
        paper="Hong, Lee and Thorne, 2024",
        title="ORPO: Monolithic Preference Optimization without Reference Model",
        arxiv="2403.07691",
        equation="6 and 7",
        claim="One stage without a reference is enough: Mistral 7B reaches 12.20 % on AlpacaEval 2 with "
        "UltraFeedback alone.",
        bibtex="""@inproceedings{hong2024orpo,
  title = {{ORPO}: Monolithic Preference Optimization without Reference Model},
  author = {Hong, Jiwoo and Lee, Noah and Thorne, James},
  booktitle = {Proceedings of the 2024 Conference on Empirical Methods in Natural Language Processing},
  year = {2024},
  eprint = {2403.07691},
  archivePrefix = {arXiv}
}""",
        note="The likelihood term is per response and covers the response only. The authors' code and TRL include the "
        "prompt and average over all tokens of the micro-batch.",
    ),
)
