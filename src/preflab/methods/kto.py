"""KTO: Kahneman-Tversky optimisation on unpaired labels."""

from dataclasses import dataclass

import torch

from preflab.core.domains import POSITIVE, Hyperparameters, hyper
from preflab.core.sources import Source
from preflab.methods._ops import aligned
from preflab.methods._types import Invariances, LossOutput, Method, Unpaired


@dataclass(frozen=True, slots=True, kw_only=True)
class KTOHyperparameters(Hyperparameters):
    """Hyper-parameters of KTO."""

    beta: float = hyper(
        0.1,
        domain=POSITIVE,
        grid=(0.01, 0.05, 0.1),
        unit="1/nat",
        doc="Steepness of the value function in the log-ratio: small beta moves far from the reference.",
        log_scale=True,
    )
    lambda_desirable: float = hyper(
        1.0,
        domain=POSITIVE,
        grid=(1.0,),
        unit="",
        doc="Weight of desirable examples. With unequal groups keep the ratio of weight times count, desirable over "
        "undesirable, between 1 and 4/3.",
    )
    lambda_undesirable: float = hyper(
        1.0, domain=POSITIVE, grid=(1.0,), unit="", doc="Weight of undesirable examples: above 1 is loss aversion."
    )


def kto_loss(batch: Unpaired, *, beta: float, lambda_desirable: float, lambda_undesirable: float) -> LossOutput:
    """One minus the value of each example, measured from a KL baseline of the whole batch.

    loss (desirable)   = lambda_desirable * sigma(beta * (z0 - log pi/ref))
    loss (undesirable) = lambda_undesirable * sigma(beta * (log pi/ref - z0))
    z0 = max(0, mean of log pi/ref over mismatched responses), a constant for the gradient

    Args:
        batch: sequence log-probs, float32 [chosen], [rejected] and [mismatched], nats; response tokens only. Either
            labelled group may be empty, `mismatched` may not: a baseline of nothing would be another method.
        beta: steepness, 1/nat, (0, inf).
        lambda_desirable: weight of desirable examples, (0, inf).
        lambda_undesirable: weight of undesirable examples, (0, inf).

    Returns:
        loss [chosen + rejected], desirable first; rewards = beta * log-ratio, detached. At policy == reference every
        loss is half its weight. `1 - sigma(x)` is written `sigma(-x)`, which keeps its digits.

    Raises:
        ValueError: no mismatched response.

    References:
        Ethayarajh et al., KTO: Model Alignment as Prospect Theoretic Optimization, 2024, arXiv:2402.01306, eq. 8 (eq. 7
        in early versions). The authors' code (HALOs) and TRL estimate z0 per micro-batch.
    """
    for group in batch:
        aligned(*group)
    if len(batch.mismatched.policy.total) == 0:
        raise ValueError(
            "KTO needs at least one mismatched response per optimizer batch for its KL baseline; got none."
        )
    baseline = (batch.mismatched.policy.total - batch.mismatched.reference.total).mean().clamp(min=0).detach()
    chosen = batch.chosen.policy.total - batch.chosen.reference.total
    rejected = batch.rejected.policy.total - batch.rejected.reference.total
    desirable = lambda_desirable * torch.sigmoid(beta * (baseline - chosen))
    undesirable = lambda_undesirable * torch.sigmoid(beta * (rejected - baseline))
    return LossOutput(torch.cat([desirable, undesirable]), (beta * chosen).detach(), (beta * rejected).detach())


def kto_at_reference(batch: Unpaired, *, beta: float, lambda_desirable: float, lambda_undesirable: float) -> float:
    """Half the mean weight: (n_desirable lambda_desirable + n_undesirable lambda_undesirable) / (2 n)."""
    n_desirable, n_undesirable = len(batch.chosen.policy.total), len(batch.rejected.policy.total)
    weights = n_desirable * lambda_desirable + n_undesirable * lambda_undesirable
    return weights / (2 * (n_desirable + n_undesirable))


KTO = Method(
    name="kto",
    title="KTO",
    summary="Raises desirable and lowers undesirable responses one by one, relative to how far the policy has drifted.",
    inputs=Unpaired,
    loss=kto_loss,
    hyperparameters=KTOHyperparameters,
    loss_at_reference=kto_at_reference,
    learning_rates=(5e-7, 1e-6, 5e-6),
    invariances=Invariances(constant_shift=True, batch_split=False),
    source=Source(
        paper="Ethayarajh et al., 2024",
        title="KTO: Model Alignment as Prospect Theoretic Optimization",
        arxiv="2402.01306",
        equation="8",
        claim="Matches or exceeds methods that need pairs, from 1B to 30B parameters, with labels of single responses.",
        bibtex="""@inproceedings{ethayarajh2024model,
  title = {Model Alignment as Prospect Theoretic Optimization},
  author = {Ethayarajh, Kawin and Xu, Winnie and Muennighoff, Niklas and Jurafsky, Dan and Kiela, Douwe},
  booktitle = {Proceedings of the 41st International Conference on Machine Learning},
  series = {Proceedings of Machine Learning Research},
  volume = {235},
  year = {2024},
  eprint = {2402.01306},
  archivePrefix = {arXiv}
}""",
        note="The baseline z0 is the mean over the whole optimizer batch, of responses to other prompts, clamped at 0 "
        "and detached. Peers estimate it per micro-batch; TRL pairs prompts by rotating fixed blocks of rows, which "
        "forbids shuffling.",
    ),
)
