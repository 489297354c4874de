"""The few tensor operations that several losses share."""

import torch
from torch import Tensor

from preflab.methods._types import (
    Logps,
    Moments,
    RankedLogps,
    RankedValues,
    ReferencedPair,
    TokenLogps,
    Values,
)

_LOG_HALF = -0.6931471805599453


def aligned(*responses: Logps | Values) -> None:
    """Refuse log-probs that do not line up one to one.

    `[n]` against `[n, 1]` broadcasts to `[n, n]` without a word, and the mean of that is a plausible wrong loss.

    Args:
        responses: the log-probs that are combined element by element; every tensor must be floating, `[example]`.

    Raises:
        ValueError: a tensor is not one-dimensional and floating, or the numbers of examples differ.
    """
    tensors = [tensor for response in responses for tensor in response]
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if any(len(shape) != 1 for shape in shapes) or len(set(shapes)) > 1:
        raise ValueError(
            f"log-probs and lengths must all be [example] with one number of examples; got shapes {shapes}."
        )
    if not all(tensor.is_floating_point() for tensor in tensors):
        raise ValueError(f"log-probs and lengths must be floating; got {[str(tensor.dtype) for tensor in tensors]}.")


def log1mexp(x: Tensor) -> Tensor:
    """Logarithm of `1 - exp(x)`.

    Above `log 1/2` the form with `expm1` keeps the digits that `1 - exp(x)` cancels, below it the form with `log1p`
    does (Mächler, Accurately Computing log(1 - exp(-|a|)), 2012).

    Args:
        x: any shape, at most 0. Values within one rounding step of 0 are read as minus that step: a probability of
            1 - eps cannot be told from 1 in this dtype, and the logarithm of 0 would give infinite gradients.

    Returns:
        Same shape, negative and finite.
    """
    x = x.clamp(max=-torch.finfo(x.dtype).eps)
    return torch.where(x > _LOG_HALF, torch.log(-torch.expm1(x)), torch.log1p(-torch.exp(x)))


def bounded_exp(exponent: Tensor, clamp: float) -> tuple[Tensor, Tensor]:
    """Return `exp(min(exponent, clamp))`, which has no gradient above the clamp, and where it was met, bool.

    Args:
        exponent: any shape, nats.
        clamp: largest exponent, nats.
    """
    return torch.exp(exponent.clamp(max=clamp)), exponent > clamp


def log_odds(mean: Tensor) -> Tensor:
    """Log odds `log(p / (1 - p))` of the per-token probability `p = exp(mean)`.

    Args:
        mean: log-prob per token, any shape, at most 0, nats/token.

    Returns:
        Same shape, nats, finite.
    """
    return mean - log1mexp(mean)


def log_ratios(batch: ReferencedPair) -> tuple[Tensor, Tensor]:
    """Return `log pi/ref` of the chosen and of the rejected responses, `[pair]` each, nats.

    Raises:
        ValueError: as in `aligned`.
    """
    aligned(*batch.policy, *batch.reference)
    return (
        batch.policy.chosen.total - batch.reference.chosen.total,
        batch.policy.rejected.total - batch.reference.rejected.total,
    )


def aligned_tokens(*responses: TokenLogps) -> None:
    """Refuse token log-probs that do not belong to as many responses, or whose lengths do not add up.

    Args:
        responses: the log-probs that are combined response by response; tokens `[token]`, lengths `[response]`.

    Raises:
        ValueError: a tensor is not one-dimensional and floating, the numbers of responses differ, or there are more or
            fewer tokens than the lengths say.
    """
    tensors = [tensor for response in responses for tensor in response]
    whole = all(tensor.dim() == 1 and tensor.is_floating_point() for tensor in tensors)
    counts = {len(response.length) for response in responses} if whole else set()
    if len(counts) != 1 or any(len(response.token) != int(response.length.sum()) for response in responses):
        raise ValueError(
            "log-probs and lengths must all be floating, [token] and [response] with one number of responses, and "
            f"lengths must add up to the tokens; got shapes {[tuple(tensor.shape) for tensor in tensors]}."
        )


def aligned_lists(*lists: RankedLogps | RankedValues) -> None:
    """Refuse ranked lists that do not line up one to one.

    Args:
        lists: what is combined response by response.

    Raises:
        ValueError: a tensor is not one-dimensional, the numbers of responses differ, or they belong to other prompts.
    """
    tensors = [tensor for found in lists for tensor in found]
    prompts = [found.prompt for found in lists]
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) != 1 or len(*shapes) != 1 or any(not torch.equal(prompts[0], prompt) for prompt in prompts):
        raise ValueError(
            f"log-probs and lengths must all be [response] with the same responses to the same prompts; got shapes "
            f"{sorted(shapes)}."
        )


def per_prompt(values: Tensor, prompt: Tensor) -> Tensor:
    """Return the sum of values over the responses to each prompt, `[prompt]`."""
    return values.new_zeros(int(prompt[-1]) + 1).index_add(0, prompt, values)


def ends(prompt: Tensor) -> tuple[Tensor, Tensor]:
    """Return the places of the best and of the worst response to each prompt, int64 `[prompt]` each."""
    counts = torch.bincount(prompt)
    last = counts.cumsum(0) - 1
    return last - counts + 1, last


def log_softmax_per_prompt(values: Tensor, prompt: Tensor) -> Tensor:
    """Return the log-softmax over the responses to each prompt, `[response]`."""
    n = int(prompt[-1]) + 1
    peak = values.detach().new_full((n,), -torch.inf).scatter_reduce(0, prompt, values.detach(), "amax")
    shifted = values - peak[prompt]
    return shifted - per_prompt(shifted.exp(), prompt).log()[prompt]


_SPREAD = 1e-4
"""A running deviation below this, in nats, is rounding: log-ratios at the reference differ by float32 noise alone."""


def running_mean(moments: Moments, values: Tensor) -> Moments:
    """Return the mean of all values so far, each counting alike; no values change nothing.

    Args:
        moments: those of the values before.
        values: new ones, any shape.
    """
    if values.numel() == 0:
        return moments
    n = moments.n + values.numel()
    return Moments(mean=moments.mean + (float(values.detach().sum()) - values.numel() * moments.mean) / n, n=n)


def moving_average(moments: Moments, values: Tensor, momentum: float) -> Moments:
    """Return exponential moving averages of the mean and the deviation of successive batches, both begun at 0.

    Args:
        moments: those of the batches before.
        values: the batch, `[example]`; the deviation of a single value counts as 0.
        momentum: share of the old average, [0, 1).
    """
    batch = values.detach()
    std = float(batch.std()) if len(batch) > 1 else 0.0
    return Moments(
        mean=momentum * moments.mean + (1 - momentum) * float(batch.mean()),
        std=momentum * moments.std + (1 - momentum) * std,
        n=moments.n + len(batch),
    )


def standardised(values: Tensor, moments: Moments) -> Tensor:
    """Return `(values - mean) / std`, and zeros while no spread is known: at the reference, or in batches of one."""
    if moments.std < _SPREAD:
        return torch.zeros_like(values)
    return (values - moments.mean) / moments.std


def clipped_surrogate(policy: TokenLogps, behaviour: TokenLogps, advantage: TokenLogps, clip: float) -> Tensor:
    """Return PPO's clipped objective of every token, `[token]`.

    min(ratio A, clip(ratio, 1 - clip, 1 + clip) A), ratio = exp(log pi - log pi_sampling)
    """
    ratio = (policy.token - behaviour.token).exp()
    return torch.minimum(ratio * advantage.token, ratio.clamp(1 - clip, 1 + clip) * advantage.token)
