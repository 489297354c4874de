"""CPO: contrastive preference optimisation."""

from dataclasses import dataclass

import torch.nn.functional as F

from preflab.core.domains import NON_NEGATIVE, POSITIVE, Hyperparameters, hyper
from preflab.core.sources import Source
from preflab.methods._ops import aligned
from preflab.methods._types import Invariances, LossOutput, Method, Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class CPOHyperparameters(Hyperparameters):
    """Hyper-parameters of CPO."""

    beta: float = hyper(
        0.1,
        domain=POSITIVE,
        grid=(0.01, 0.05, 0.1),
        unit="1/nat",
        doc="Reward scale on the summed log-prob; there is no reference to be tied to.",
        log_scale=True,
    )
    alpha: float = hyper(
        1.0,
        domain=NON_NEGATIVE,
        grid=(1.0,),
        unit="",
        doc="Weight of the likelihood term on the chosen responses; 0 removes it.",
    )


def cpo_loss(batch: Pair, *, beta: float, alpha: float) -> LossOutput:
    """DPO with a uniform reference, plus the likelihood of the chosen response as a regulariser.

    loss_i = -log sigma(beta * (log pi(chosen) - log pi(rejected))) - alpha * log pi(chosen) / (mean chosen length)

    Args:
        batch: sequence log-probs, float32 [pair], nats, with lengths in tokens; response tokens only.
        beta: reward scale, 1/nat, (0, inf).
        alpha: weight of the likelihood term, [0, inf).

    Returns:
        loss [pair]; rewards [pair] = beta * log-prob, detached. Averaged over the batch the likelihood term is the mean
        over its chosen tokens, so an example's loss depends on the lengths beside it. At equal
        sums of log-probs the first term is log 2, and with tokens of probability 1/2 the second is alpha * log 2.

    References:
        Xu et al., Contrastive Preference Optimization, 2024, arXiv:2401.08417, eq. 3 plus its NLL term. The paper
        writes the NLL per sequence, without saying how it is averaged; the authors' own trainer and TRL take the token
        mean of the batch, with weight 1, and so does this loss: a sum over tokens would drown the preference term.
        TRL's batch is the micro-batch, ours the optimizer batch.
    """
    aligned(*batch)
    margin = batch.chosen.total - batch.rejected.total
    nll = -batch.chosen.total / batch.chosen.length.mean()
    rewards = (beta * batch.chosen.total).detach(), (beta * batch.rejected.total).detach()
    return LossOutput(-F.logsigmoid(beta * margin) + alpha * nll, *rewards)


CPO = Method(
    name="cpo",
    title="CPO",
    summary="Contrasts the pair without a reference and keeps the chosen response likely by an added likelihood term.",
    inputs=Pair,
    loss=cpo_loss,
    hyperparameters=CPOHyperparameters,
    loss_at_reference=None,
    learning_rates=(3e-7, 5e-7, 8e-7, 1e-6),
    invariances=Invariances(batch_split=False),
    source=Source(
        paper="Xu et al., 2024",
        title="Contrastive Preference Optimization: Pushing the Boundaries of LLM Performance in Machine Translation",
        arxiv="2401.08417",
        equation="3, plus the NLL term",
        claim="Lets ALMA match or exceed GPT-4 and winners of WMT in translation, from 22,000 parallel sentences.",
        bibtex="""@inproceedings{xu2024contrastive,
  title = {Contrastive Preference Optimization: Pushing the Boundaries of {LLM} Performance in Machine Translation},
  author = {Xu, Haoran and Sharaf, Amr and Chen, Yunmo and Tan, Weiting and Shen, Lingfeng and
            Van Durme, Benjamin and Murray, Kenton and Kim, Young Jin},
  booktitle = {Proceedings of the 41st International Conference on Machine Learning},
  series = {Proceedings of Machine Learning Research},
  volume = {235},
  year = {2024},
  eprint = {2401.08417},
  archivePrefix = {arXiv}
}""",
        note="The likelihood term is the token mean over the optimizer batch, as in the authors' trainer, not the sum "
        "that the equation shows. TRL takes it per micro-batch.",
    ),
)
