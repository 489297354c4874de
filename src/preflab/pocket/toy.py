"""The toy model of "3D-Properties": four prompts, ten answers, every probability known, so nothing is estimated.

A policy is a three-layer perceptron from a one-hot prompt to a softmax over the answers. Fitting it to hand-set
probabilities stands for pre-training and supervised fine-tuning; then any method of the library trains it on one pair
for each prompt. An answer counts as a response of one token. Policies of several seeds train side by side, as batched
matrices that share nothing.

References:
    Yan et al., 3D-Properties: Identifying Challenges in DPO and Charting a Path Forward, 2024, arXiv:2406.07327,
    section 3.2 and figures 1 to 3. The paper does not state width, activation, optimizer, step size, beta and seeds;
    those here are ours. Initial probabilities, and which answer is rejected, are read from its figures.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preflab.core.seeds import derive, uniform
from preflab.methods import (
    Leaf,
    Logps,
    Method,
    Moments,
    Part,
    RankedLogps,
    RankedValues,
    TokenLogps,
    Values,
    assemble,
    n_states,
)
from preflab.methods.needs import moves_reference

CHOSEN: Final = (0, 1, 2, 3)
REJECTED: Final = (4, 6, 7, 5)
"""Column of each prompt's rejected answer, read from figure 1."""
UNSEEN: Final = (8, 9)
"""Columns that are in no pair."""
N_PROMPTS, N_ANSWERS = 4, 10
_COLUMNS_OF: Final = {
    "chosen": CHOSEN,
    "rejected": REJECTED,
    "mismatched": (*CHOSEN[1:], CHOSEN[0]),
    "gold": CHOSEN,
}
"""Role to the column of each prompt; the mismatched response is the next prompt's chosen one."""

COLUMNS: Final = (
    "chosen",
    "chosen_min",
    "rejected",
    "rejected_max",
    "unseen",
    "others_chosen",
    "others_rejected",
    "never",
    "chosen_total",
    "rejected_total",
    "slope_chosen",
    "slope_rejected",
    "log10_grad_chosen",
    "log10_grad_rejected",
    "log10_ratio",
    "log10_odds",
    "entropy",
    "kl",
    "loss",
)
"""What is recorded, means over prompts unless said otherwise: probability of the chosen and of the rejected answer, and
the smallest and largest over prompts; mean probability of the eight answers that are neither (the paper's `unseen`);
mass on other prompts' chosen, on other prompts' rejected and on never seen answers; log-probs, nats; derivative of the
loss by the log-prob of each side; log10 of its mean size by the probability; log10 of rejected over chosen of these,
and of pi(chosen) / pi(rejected), which is that ratio for every loss of the difference of log-probs alone; entropy and
KL(policy || start), nats; the loss."""

Activation = Literal["relu", "tanh", "gelu"]
_ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh, "gelu": torch.nn.functional.gelu}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToySettings:
    """How policies look and learn.

    Args:
        width: units of both hidden layers.
        activation: of both hidden layers.
        fit_steps: full-batch Adam steps of the fit to the initial probabilities.
        fit_learning_rate: of the fit.
        steps: full-batch Adam steps of the method, with fresh moments.
        learning_rate: of the method, constant.
        record_every: steps between two records.
    """

    width: int
    activation: Activation
    fit_steps: int
    fit_learning_rate: float
    steps: int
    learning_rate: float
    record_every: int


class Policies:
    """Independent policies, one for each seed; their weights are drawn as `torch.nn.Linear` draws them.

    Args:
        seeds: of the weights.
        settings: width and activation.
    """

    def __init__(self, seeds: Sequence[int], settings: ToySettings) -> None:
        drawn = [_weights(seed, settings.width) for seed in seeds]
        self.weights = {name: torch.stack([w[name] for w in drawn]).requires_grad_() for name in drawn[0]}
        self._activation = _ACTIVATIONS[settings.activation]

    def log_probs(self) -> Tensor:
        """Return log-probs of every answer to every prompt, float64 `[seed, prompt, answer]`, nats."""
        w = self.weights
        hidden = self._activation(w["first"] + w["first_bias"])  # a one-hot prompt picks a row
        hidden = self._activation(torch.baddbmm(w["second_bias"], hidden, w["second"]))
        return torch.baddbmm(w["third_bias"], hidden, w["third"]).double().log_softmax(-1)

    def follow(self, others: "Policies", share: float) -> None:
        """Move the weights by a share of the way to others'."""
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.lerp_(others.weights[name], share)


def _weights(seed: int, width: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(derive(seed, "toy"))
    sizes = {"first": (N_PROMPTS, width), "second": (width, width), "third": (width, N_ANSWERS)}
    weights = {}
    for name, (inputs, outputs) in sizes.items():
        for key, shape in ((name, (inputs, outputs)), (f"{name}_bias", (1, outputs))):
            weights[key] = (2 * torch.rand(*shape, generator=generator) - 1) * inputs**-0.5
    return weights


def initial(chosen: float, rejected: float, unseen: Sequence[float]) -> NDArray[np.float64]:
    """Return the probabilities that every prompt starts from, `[answer]`: four chosen, four rejected, two unseen."""
    return np.array([chosen] * N_PROMPTS + [rejected] * N_PROMPTS + list(unseen))


def fit(policies: Policies, target: NDArray[np.float64], settings: ToySettings) -> None:
    """Fit policies to the same probabilities for every prompt, `[answer]`, as soft labels."""
    wanted = torch.from_numpy(target)
    optimizer = torch.optim.Adam(policies.weights.values(), lr=settings.fit_learning_rate, fused=True)
    for _ in range(settings.fit_steps):
        optimizer.zero_grad()
        (-(wanted * policies.log_probs()).sum(-1).mean(1).sum()).backward()
        optimizer.step()


def recorded_steps(settings: ToySettings) -> list[int]:
    """Return the steps after which a record is taken: 0, every so many, and the last."""
    return sorted({*range(0, settings.steps + 1, settings.record_every), settings.steps})


def train(
    policies: Policies,
    method: Method,
    hyperparameters: Mapping[str, float],
    settings: ToySettings,
    *,
    seeds: Sequence[int],
) -> NDArray[np.float64]:
    """Train policies in place with a method and return what was recorded.

    Records of a policy are NaN from the first one on at which its loss or gradient is not finite.

    Args:
        policies: fitted policies.
        method: the objective.
        hyperparameters: keyword arguments of its loss.
        settings: steps, learning rate and records.
        seeds: of the policies, in order; they name the random numbers of methods that draw some.

    Returns:
        float64 `[record, seed, column]` in the order of `COLUMNS`, at the steps of `recorded_steps`.
    """
    optimizer = torch.optim.Adam(policies.weights.values(), lr=settings.learning_rate, fused=True)
    start = policies.log_probs().detach()
    moving = deepcopy(policies) if moves_reference(method) else None
    states: list[tuple[Moments, ...]] = [()] * len(seeds)
    alive = torch.ones(len(seeds), dtype=torch.bool)
    records, wanted = [], set(recorded_steps(settings))
    for step in range(settings.steps + 1):
        logp = policies.log_probs()
        known = _Known(
            policy=logp.detach().requires_grad_(),
            reference=start,
            moving=moving.log_probs().detach() if moving else None,
            seeds=seeds,
            step=step,
        )
        loss, slope, states = _loss(method, hyperparameters, known, states)
        if step in wanted:
            # Policies share nothing, so one that is lost stays lost and leaves the others alone until somebody looks.
            alive &= loss.isfinite() & slope.isfinite().all(-1).all(-1)
            records.append(torch.where(alive[:, None], _record(known, slope, loss), torch.nan).numpy())
        if step < settings.steps:
            optimizer.zero_grad()
            logp.backward(slope)
            optimizer.step()
        if moving is not None and method.reference_update is not None:
            moving.follow(policies, method.reference_update(step + 1, **hyperparameters))
    return np.stack(records)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What a loss may ask for: log-probs `[seed, prompt, answer]`, nats; only the policy's require a gradient."""

    policy: Tensor
    reference: Tensor
    moving: Tensor | None
    seeds: Sequence[int]
    step: int

    def one(self, seed: int) -> "_Known":
        """Return what is known of one policy."""
        part = slice(seed, seed + 1)
        return _Known(
            policy=self.policy[part],
            reference=self.reference[part],
            moving=None if self.moving is None else self.moving[part],
            seeds=self.seeds[part],
            step=self.step,
        )

    def get(self, leaf: Leaf) -> Part:
        """Return what a leaf of an input type asks for; answers have one token."""
        if leaf.role == "ranked":
            return self._ranked(leaf)
        value = self._values(leaf.quantity, leaf.role).reshape(-1)
        if leaf.kind is Values:
            return Values(value)
        if leaf.kind is TokenLogps:
            return TokenLogps(value, torch.ones_like(value))
        return Logps(value, torch.ones_like(value))

    def _ranked(self, leaf: Leaf) -> Part:
        """Return a list of two for each prompt, the chosen answer first."""
        both = torch.stack([self._values(leaf.quantity, role) for role in ("chosen", "rejected")], dim=-1).reshape(-1)
        prompt = torch.arange(len(both) // 2).repeat_interleave(2)
        if leaf.kind is RankedValues:
            return RankedValues(both, prompt)
        return RankedLogps(both, torch.ones_like(both), prompt)

    def _values(self, quantity: str, role: str) -> Tensor:
        """Return a quantity of one answer to every prompt, `[seed, prompt]`."""
        if quantity == "score":
            return torch.full_like(self.reference[..., 0], float(role in ("chosen", "gold")))
        if quantity == "noise":
            drawn = [uniform(N_PROMPTS, seed, "toy noise", self.step, role) for seed in self.seeds]
            return torch.from_numpy(np.stack(drawn))
        if quantity == "divergence":
            return (self.reference.exp() * (self.reference - self.policy)).sum(-1)
        if quantity == "collision":
            return (2 * self.policy.detach()).logsumexp(-1)
        of = {"policy": self.policy, "reference": self.reference, "moving_reference": self.moving}[quantity]
        assert of is not None
        return of[:, range(N_PROMPTS), list(_COLUMNS_OF[role])]


def _loss(
    method: Method, hyperparameters: Mapping[str, float], known: _Known, states: Sequence[tuple[Moments, ...]]
) -> tuple[Tensor, Tensor, list[tuple[Moments, ...]]]:
    """Return each policy's mean loss `[seed]`, its derivative by every log-prob, and what the method remembers."""
    n = len(known.seeds)
    alone = method.couples_batch or n_states(method.inputs) > 0
    parts = [known.one(seed) for seed in range(n)] if alone else [known]
    outputs = [
        method.loss(assemble(method.inputs, part.get, state), **hyperparameters)
        for part, state in zip(parts, states, strict=False)
    ]
    # Examples of unpaired methods lie role by role, so that prompts vary fastest and seeds next within each role.
    loss = torch.cat([output.loss.reshape(-1, n if len(parts) == 1 else 1, N_PROMPTS) for output in outputs], dim=1)
    mean = loss.mean(dim=(0, 2))
    (slope,) = torch.autograd.grad(mean.sum(), known.policy)
    return mean.detach(), slope, [output.state for output in outputs] if alone else [()] * n


def _record(known: _Known, slope: Tensor, loss: Tensor) -> Tensor:
    """Return the columns of one record, `[seed, column]`."""
    logp, prompts = known.policy.detach(), range(N_PROMPTS)
    p = logp.exp()
    log_chosen, log_rejected = logp[:, prompts, list(CHOSEN)], logp[:, prompts, list(REJECTED)]
    chosen, rejected = log_chosen.exp(), log_rejected.exp()
    slope_chosen = slope[:, prompts, list(CHOSEN)] * N_PROMPTS  # of a prompt's own loss, not of the mean
    slope_rejected = slope[:, prompts, list(REJECTED)] * N_PROMPTS
    # By the probability it is slope / p, which leaves the range of floats; its logarithm does not.
    log_grad_chosen = slope_chosen.abs().log() - log_chosen
    log_grad_rejected = slope_rejected.abs().log() - log_rejected
    tens, n = np.log(10), np.log(N_PROMPTS)
    columns = (
        chosen.mean(1),
        chosen.amin(1),
        rejected.mean(1),
        rejected.amax(1),
        ((1 - chosen - rejected) / (N_ANSWERS - 2)).mean(1),
        (p[..., list(CHOSEN)].sum(-1) - chosen).mean(1),
        (p[..., list(REJECTED)].sum(-1) - rejected).mean(1),
        p[..., list(UNSEEN)].sum(-1).mean(1),
        log_chosen.mean(1),
        log_rejected.mean(1),
        slope_chosen.mean(1),
        slope_rejected.mean(1),
        (log_grad_chosen.logsumexp(1) - n) / tens,
        (log_grad_rejected.logsumexp(1) - n) / tens,
        (log_grad_rejected - log_grad_chosen).mean(1) / tens,
        (log_chosen - log_rejected).mean(1) / tens,
        -(p * logp).sum(-1).mean(1),
        (p * (logp - known.reference)).sum(-1).mean(1),
        loss,
    )
    return torch.stack(columns, dim=-1)
