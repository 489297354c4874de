"""The reward model of RLHF: a value head at the end of a response, fitted to preferences."""

import math
from typing import NamedTuple

import torch.nn.functional as F

from preflab.core.sources import Source
from preflab.methods._ops import aligned
from preflab.methods._types import LossOutput, Method, ValuePair


class ScoredPair(NamedTuple):
    """What a value head says at the end of the two responses of a pair."""

    value: ValuePair


def bradley_terry_loss(batch: ScoredPair) -> LossOutput:
    """Logistic loss of the difference of two scores.

    loss = -log sigma(r(chosen) - r(rejected))

    Args:
        batch: scores, float32 [pair].

    Returns:
        loss [pair], nats; rewards [pair] = the scores, detached. A head that says the same of both has log 2.

    References:
        Ouyang et al., Training Language Models to Follow Instructions with Human Feedback, 2022, arXiv:2203.02155,
        eq. 1, after Bradley and Terry, 1952.
    """
    chosen, rejected = batch.value
    aligned(chosen, rejected)
    return LossOutput(-F.logsigmoid(chosen.value - rejected.value), chosen.value.detach(), rejected.value.detach())


def bradley_terry_at_reference(batch: ScoredPair) -> float:
    """log(2): a head begins at zero."""
    return math.log(2)


BRADLEY_TERRY = Method(
    name="bradley_terry",
    title="Bradley-Terry reward model",
    summary="Fits scores of responses to preferences, for methods that learn from rewards.",
    inputs=ScoredPair,
    loss=bradley_terry_loss,
    loss_at_reference=bradley_terry_at_reference,
    learning_rates=(9e-6,),
    source=Source(
        paper="Ouyang et al., 2022",
        title="Training Language Models to Follow Instructions with Human Feedback",
        arxiv="2203.02155",
        equation="1",
        claim="Predicts which of two answers people prefer, well enough to train on.",
        bibtex="""@inproceedings{ouyang2022training,
  title = {Training Language Models to Follow Instructions with Human Feedback},
  author = {Ouyang, Long and Wu, Jeffrey and Jiang, Xu and Almeida, Diogo and Wainwright, Carroll and Mishkin, Pamela
            and Zhang, Chong and Agarwal, Sandhini and Slama, Katarina and Ray, Alex and others},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2022},
  eprint = {2203.02155},
  archivePrefix = {arXiv}
}""",
    ),
)
