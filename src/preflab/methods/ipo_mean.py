"""IPO with log-ratios averaged over tokens, as most codebases run it."""

from dataclasses import dataclass, replace

from preflab.core.domains import POSITIVE, Hyperparameters, hyper
from preflab.methods._ops import aligned
from preflab.methods._papers import IPO_PAPER
from preflab.methods._types import Invariances, LossOutput, Method, ReferencedPair


@dataclass(frozen=True, slots=True, kw_only=True)
class IPOMeanHyperparameters(Hyperparameters):
    """Hyper-parameters of per-token IPO."""

    tau: float = hyper(
        0.1,
        domain=POSITIVE,
        grid=(0.01, 0.1, 0.5, 1.0),
        unit="token/nat",
        doc="Strength of the tie to the reference: the margin is pulled to 1/(2 tau) nats per token.",
        log_scale=True,
    )


def ipo_mean_loss(batch: ReferencedPair, *, tau: float) -> LossOutput:
    """Squared distance of the per-token log-ratio margin from 1/(2 tau).

    loss = (log pi/ref (chosen) / |chosen| - log pi/ref (rejected) / |rejected| - 1/(2 tau))^2

    Args:
        batch: sequence log-probs, float32 [pair], nats, with lengths in tokens; response tokens only.
        tau: strength of the tie to the reference, token/nat, (0, inf). Not comparable with the tau of `ipo`.

    Returns:
        loss [pair], (nat/token)^2; rewards [pair] = tau * log-ratio per token, detached. At policy == reference the
        loss is 1/(4 tau^2).

    References:
        Azar et al., A General Theoretical Paradigm to Understand Learning from Human Preferences, 2023,
        arXiv:2310.12036, eq. 17 with averaged log-ratios. The equation shows sums (see `ipo`); TRL averages and says
        that the authors confirmed it.
    """
    aligned(*batch.policy, *batch.reference)
    chosen = batch.policy.chosen.mean - batch.reference.chosen.mean
    rejected = batch.policy.rejected.mean - batch.reference.rejected.mean
    loss = (chosen - rejected - 1 / (2 * tau)).square()
    return LossOutput(loss, (tau * chosen).detach(), (tau * rejected).detach())


def ipo_mean_at_reference(batch: ReferencedPair, *, tau: float) -> float:
    """1/(4 tau^2)."""
    return 1 / (4 * tau**2)


IPO_MEAN = Method(
    name="ipo_mean",
    title="IPO (per token)",
    summary="IPO on log-ratios averaged over tokens, so that the target margin does not depend on length.",
    inputs=ReferencedPair,
    loss=ipo_mean_loss,
    hyperparameters=IPOMeanHyperparameters,
    loss_at_reference=ipo_mean_at_reference,
    learning_rates=(3e-7, 5e-7, 7e-7, 1e-6),
    invariances=Invariances(constant_shift=True),
    source=replace(
        IPO_PAPER,
        equation="17, with log-ratios averaged over tokens",
        claim="Without the step through Bradley-Terry the tie to the reference holds also under preferences that "
        "are always the same, where DPO runs away.",
        note="What TRL calls ipo. The equation itself shows sums: see ipo. The two tau are not comparable.",
    ),
)
