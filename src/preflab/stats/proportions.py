"""Right-or-wrong answers of two models to the same questions: the exact test, and what it will find."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from preflab.stats.intervals import Interval, check_level, t_quantile


def discordant_counts(first: ArrayLike, second: ArrayLike) -> tuple[int, int]:
    """Return how many items only the first, and only the second of two models gets right.

    Args:
        first: 0 or 1 for every item, `[item]`.
        second: the same of the other model, item by item.

    Raises:
        ValueError: other shapes or other values.
    """
    a, b = np.asarray(first), np.asarray(second)
    if a.ndim != 1 or a.shape != b.shape or not (np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all()):
        raise ValueError(f"needs 0 or 1 for the same items [item] twice; got shapes {a.shape} and {b.shape}")
    return int((a > b).sum()), int((a < b).sum())


def mcnemar_p(won: int, lost: int) -> float:
    """Return the two-sided p-value of McNemar's exact test of discordant items that are split evenly.

    The sign test on the discordant items, min(1, 2 P(X <= min(won, lost))) with X ~ Binomial(won + lost, 1/2). Items
    that both models get right, or both wrong, say nothing about their difference.

    Args:
        won: items that only the first model gets right.
        lost: items that only the second gets right.

    Returns:
        1 where no item is discordant.

    References:
        McNemar, Note on the sampling error of the difference between correlated proportions, 1947.
    """
    if won < 0 or lost < 0:
        raise ValueError(f"counts cannot be negative; got {won} and {lost}")
    n = won + lost
    # bdtr(k, n, p) is P(X <= k); a sum over both tails counts the middle of an even split twice.
    return 1.0 if n == 0 else min(1.0, 2 * float(special.bdtr(min(won, lost), n, 0.5)))


def paired_interval(won: int, lost: int, n: int, *, level: float = 0.95) -> Interval:
    """Return the difference of two shares of right answers to the same items, with Bonett and Price's interval.

    With p = (won + 1) / (n + 2) and q = (lost + 1) / (n + 2) the bounds are

        p - q -+ z sqrt((p + q - (p - q)^2) / (n + 2)),

    Wald's interval after one item was added to each kind of disagreement, so that no disagreement in n items does not
    pass for certainty. The estimate is (won - lost) / n.

    Args:
        won: items that only the first model gets right.
        lost: items that only the second gets right.
        n: items.
        level: confidence level.

    References:
        Bonett and Price, Adjusted Wald Confidence Interval for a Difference of Binomial Proportions Based on Paired
        Data, 2012.
    """
    if n < 1 or won < 0 or lost < 0 or won + lost > n:
        raise ValueError(f"needs n >= 1 and won + lost <= n; got {won}, {lost} and {n}")
    check_level(level)
    p, q = (won + 1) / (n + 2), (lost + 1) / (n + 2)
    se = math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    half = t_quantile(0.5 + level / 2, math.inf) * se
    bounds = max(-1.0, p - q - half), min(1.0, p - q + half)
    return Interval((won - lost) / n, *bounds, se, n, math.inf, "paired", level)


def mcnemar_power(n: int, difference: float, discordant: float, *, level: float = 0.95) -> float:
    """Return how likely McNemar's exact test is to find a true difference on `n` paired items.

    Summed over the number of discordant items, Binomial(n, discordant), and over how they split, Binomial(m, share)
    with share = (discordant + difference) / (2 discordant).

    Args:
        n: items.
        difference: true difference of the two shares of right answers, in [0, discordant].
        discordant: share of items on which the models differ, in (0, 1].
        level: one minus the significance level.
    """
    if n < 1 or not 0 < discordant <= 1 or not 0 <= difference <= discordant:
        raise ValueError(f"needs n >= 1 and 0 <= difference <= discordant <= 1; got {n}, {difference} and {discordant}")
    share = (discordant + difference) / (2 * discordant)
    m = np.arange(n + 1)
    chance = np.exp(
        special.gammaln(n + 1) - special.gammaln(m + 1) - special.gammaln(n - m + 1)
        + special.xlogy(m, discordant) + special.xlog1py(n - m, -discordant)
    )  # fmt: skip
    # Largest count of the rarer side that is still significant; -1 where none is.
    critical = _critical(m, 1 - level)
    at = np.maximum(critical, 0)
    found = np.where(critical < 0, 0.0, special.bdtr(at, m, share) + special.bdtr(at, m, 1 - share))
    return float((chance * found).sum())


def expected_discordance(first: float, second: float, correlation: float) -> float:
    """Return the share of items on which two models will differ: what the power of a planned run rests on.

    p + q - 2 (p q + r sqrt(p (1 - p) q (1 - q))) for shares p and q of right answers with correlation r over items.

    Args:
        first: share of right answers of one model, in [0, 1].
        second: of the other.
        correlation: of right and wrong over items, 0 for models with nothing in common; a model and its fine-tuned
            self have much.

    Raises:
        ValueError: a share out of range, or a correlation that these shares cannot have.
    """
    if not (0 <= first <= 1 and 0 <= second <= 1):
        raise ValueError(f"shares must be in [0, 1]; got {first} and {second}")
    both = first * second + correlation * math.sqrt(first * (1 - first) * second * (1 - second))
    # Both right at most as often as either, and as seldom as both shares allow; but for rounding.
    if not max(0.0, first + second - 1) - 1e-9 <= both <= min(first, second) + 1e-9:
        raise ValueError(f"answers right in shares of {first} and {second} cannot have a correlation of {correlation}")
    return first + second - 2 * both


def detectable_difference(n: int, discordant: float, *, power: float = 0.8, level: float = 0.95) -> float:
    """Return the smallest true difference of two shares that McNemar's exact test finds with the given power.

    Args:
        n: paired items that will be scored.
        discordant: share of items on which the models will differ, from a pilot or a guess; the more alike two models
            are, the smaller it is, and the smaller the differences that can be seen.
        power: probability of a significant result.
        level: one minus the significance level.

    Returns:
        A share, or NaN where even a difference as large as `discordant` would be missed.
    """
    if mcnemar_power(n, discordant, discordant, level=level) < power:
        return math.nan
    low, high = 0.0, discordant
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if mcnemar_power(n, middle, discordant, level=level) >= power else (middle, high)
    return high


def _critical(m: NDArray[np.intp], alpha: float) -> NDArray[np.intp]:
    """Return the largest k with 2 P(Binomial(m, 1/2) <= k) <= alpha, or -1, for every m."""
    alpha *= 1 + 1e-12
    k = np.nan_to_num(np.floor(special.bdtrik(alpha / 2, m, 0.5)), nan=-1.0).astype(np.intp)
    # bdtrik inverts the continuous extension, to a few digits and never below 0.
    k += 2 * special.bdtr(k + 1, m, 0.5) <= alpha
    k -= (k >= 0) & (2 * special.bdtr(np.maximum(k, 0), m, 0.5) > alpha)
    return k
