"""SPPO with hard labels: self-play preference optimisation."""

from dataclasses import dataclass

from preflab.core.domains import Hyperparameters
from preflab.core.sources import Source
from preflab.methods._hyper import tie
from preflab.methods._ops import log_ratios
from preflab.methods._types import Invariances, LossOutput, Method, ReferencedPair


@dataclass(frozen=True, slots=True, kw_only=True)
class SPPOHardHyperparameters(Hyperparameters):
    """Hyper-parameters of SPPO (hard)."""

    beta: float = tie(0.001, grid=(0.001,))


def sppo_hard_loss(batch: ReferencedPair, *, beta: float) -> LossOutput:
    """Squared distance of each log-ratio from half a win over the reference, in units of 1/beta.

    loss = (log pi/ref (chosen) - 1 / (2 beta))^2 + (log pi/ref (rejected) + 1 / (2 beta))^2

    Both log-ratios have a target of their own, so the chosen likelihood is pulled up as well as the rejected one down;
    the loss vanishes at +-1/(2 beta).

    Args:
        batch: sequence log-probs, float32 [pair], nats; response tokens only.
        beta: strength of the tie to the reference, 1/nat, (0, inf).

    Returns:
        loss [pair], nats^2; rewards [pair] = beta * log-ratio, detached. At policy == reference the loss is 1 / (2
        beta^2).

    References:
        Wu et al., Self-Play Preference Optimization for Language Model Alignment, 2024, arXiv:2405.00675, eq. 4.7 with
        win probabilities 1 and 0. TRL's `sppo_hard` is the same.
    """
    chosen_ratio, rejected_ratio = log_ratios(batch)
    target = 1 / (2 * beta)
    loss = (chosen_ratio - target) ** 2 + (rejected_ratio + target) ** 2
    return LossOutput(loss, (beta * chosen_ratio).detach(), (beta * rejected_ratio).detach())


def sppo_hard_at_reference(batch: ReferencedPair, *, beta: float) -> float:
    """1 / (2 beta^2)."""
    return 1 / (2 * beta**2)


SPPO_HARD = Method(
    name="sppo_hard",
    title="SPPO (hard)",
    summary="Regresses each log-ratio on its own target, up for the chosen and down for the rejected response.",
    inputs=ReferencedPair,
    loss=sppo_hard_loss,
    hyperparameters=SPPOHardHyperparameters,
    loss_at_reference=sppo_hard_at_reference,
    learning_rates=(5e-7,),
    invariances=Invariances(constant_shift=True),
    source=Source(
        paper="Wu et al., 2024",
        title="Self-Play Preference Optimization for Language Model Alignment",
        arxiv="2405.00675",
        equation="4.7",
        claim="Three rounds of self-play with a preference model of 0.4B parameters take Mistral-7B-Instruct to "
        "a length-controlled win rate of 28.53 % on AlpacaEval 2.",
        bibtex="""@inproceedings{wu2025selfplay,
  title = {Self-Play Preference Optimization for Language Model Alignment},
  author = {Wu, Yue and Sun, Zhiqing and Yuan, Huizhuo and Ji, Kaixuan and Yang, Yiming and Gu, Quanquan},
  booktitle = {International Conference on Learning Representations},
  year = {2025},
  eprint = {2405.00675},
  archivePrefix = {arXiv}
}""",
        note="The paper samples its own pairs in rounds and uses soft win probabilities of a preference model; this is "
        "one round on given pairs with hard labels.",
    ),
)
