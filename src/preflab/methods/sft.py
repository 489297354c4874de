"""Supervised fine-tuning: maximum likelihood of the chosen responses."""

from dataclasses import dataclass

from preflab.core.domains import Hyperparameters
from preflab.core.sources import Source
from preflab.methods._ops import aligned
from preflab.methods._types import Chosen, Invariances, LossOutput, Method


@dataclass(frozen=True, slots=True, kw_only=True)
class SFTHyperparameters(Hyperparameters):
    """Supervised fine-tuning has nothing to tune but the optimizer."""


def sft_loss(batch: Chosen) -> LossOutput:
    """Negative log-likelihood of the chosen responses, averaged over the tokens of the batch.

    loss_i = -log pi(y_i) / (mean length in the batch)

    Dividing by the mean length rather than by the response's own makes the mean of the losses the token mean
    `-sum log pi / sum |y|`: every token counts alike, long responses count more, and accumulation is exact.

    Args:
        batch: sequence log-probs, float32 [example], nats; response tokens only.

    Returns:
        loss [example], nats/token; chosen_reward is the log-prob per token, detached; rejected_reward is empty.
        Where every token has probability 1/2 the loss of a response of mean length is log 2.

    References:
        Ouyang et al., Training language models to follow instructions with human feedback, 2022, arXiv:2203.02155,
        section 3.5, in words. TRL takes the token mean over each device's micro-batch (its DPO `sft` loss) or over the
        tokens of all accumulated micro-batches (its SFT trainer); the latter is this loss.
    """
    aligned(*batch)
    empty = batch.chosen.total.new_empty(0)
    return LossOutput(-batch.chosen.total / batch.chosen.length.mean(), batch.chosen.mean.detach(), empty)


SFT = Method(
    name="sft",
    title="SFT",
    summary="Raises the likelihood of the chosen responses and looks at nothing else: the baseline of every study.",
    inputs=Chosen,
    loss=sft_loss,
    hyperparameters=SFTHyperparameters,
    loss_at_reference=None,
    learning_rates=(5e-6, 1e-5, 2e-5),
    invariances=Invariances(batch_split=False),
    source=Source(
        paper="Ouyang et al., 2022",
        title="Training language models to follow instructions with human feedback",
        arxiv="2203.02155",
        equation="section 3.5 (in words)",
        claim="Fine-tuning on demonstrations is the first of three stages; human feedback then improves on it.",
        bibtex="""@inproceedings{ouyang2022training,
  title = {Training language models to follow instructions with human feedback},
  author = {Ouyang, Long and Wu, Jeffrey and Jiang, Xu and Almeida, Diogo and Wainwright, Carroll L. and
            Mishkin, Pamela and Zhang, Chong and Agarwal, Sandhini and Slama, Katarina and Ray, Alex and
            Schulman, John and Hilton, Jacob and Kelton, Fraser and Miller, Luke and Simens, Maddie and
            Askell, Amanda and Welinder, Peter and Christiano, Paul and Leike, Jan and Lowe, Ryan},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {35},
  year = {2022},
  eprint = {2203.02155},
  archivePrefix = {arXiv}
}""",
        note="Token mean over the optimizer batch. Averaging per micro-batch, as some do, weights tokens unevenly.",
    ),
)
