"""IPO with summed log-probs, as its equation reads."""

from dataclasses import dataclass, replace

from preflab.core.domains import POSITIVE, Hyperparameters, hyper
from preflab.methods._ops import aligned
from preflab.methods._papers import IPO_PAPER
from preflab.methods._types import Invariances, LossOutput, Method, ReferencedPair


@dataclass(frozen=True, slots=True, kw_only=True)
class IPOHyperparameters(Hyperparameters):
    """Hyper-parameters of IPO."""

    tau: float = hyper(
        0.1,
        domain=POSITIVE,
        grid=(0.001, 0.01, 0.1, 0.5, 1.0),
        unit="1/nat",
        doc="Strength of the tie to the reference: the margin is pulled to 1/(2 tau) nats per response.",
        log_scale=True,
    )


def ipo_loss(batch: ReferencedPair, *, tau: float) -> LossOutput:
    """Squared distance of the log-ratio margin from 1/(2 tau), log-probs summed over tokens.

    loss = (log pi/ref (chosen) - log pi/ref (rejected) - 1/(2 tau))^2

    Args:
        batch: sequence log-probs, float32 [pair], nats; response tokens only.
        tau: strength of the tie to the reference, 1/nat, (0, inf). Larger keeps the policy closer to it.

    Returns:
        loss [pair], nat^2; rewards [pair] = tau * log-ratio, detached. At policy == reference the loss is 1/(4 tau^2).

    References:
        Azar et al., A General Theoretical Paradigm to Understand Learning from Human Preferences, 2023,
        arXiv:2310.12036, eq. 17. TRL and HALOs average over tokens instead: see `ipo_mean`.
    """
    aligned(*batch.policy, *batch.reference)
    chosen = batch.policy.chosen.total - batch.reference.chosen.total
    rejected = batch.policy.rejected.total - batch.reference.rejected.total
    loss = (chosen - rejected - 1 / (2 * tau)).square()
    return LossOutput(loss, (tau * chosen).detach(), (tau * rejected).detach())


def ipo_at_reference(batch: ReferencedPair, *, tau: float) -> float:
    """1/(4 tau^2)."""
    return 1 / (4 * tau**2)


IPO = Method(
    name="ipo",
    title="IPO",
    summary="Pulls the log-ratio margin of a pair to a finite target, so that certain preferences do not run away.",
    inputs=ReferencedPair,
    loss=ipo_loss,
    hyperparameters=IPOHyperparameters,
    loss_at_reference=ipo_at_reference,
    learning_rates=(3e-7, 5e-7, 7e-7, 1e-6),
    invariances=Invariances(constant_shift=True),
    source=replace(
        IPO_PAPER,
        equation="17",
        claim="Without the step through Bradley-Terry the tie to the reference holds also under preferences that "
        "are always the same, where DPO runs away.",
        note="Log-probs summed over tokens, as the equation reads. Other codebases average: see ipo_mean. "
        "The two tau are not comparable.",
    ),
)
