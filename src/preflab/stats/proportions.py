"""Right-or-wrong answers of two models to the same questions: the exact test, and what it will find."""

import math

import numpy as np
from scipy import special

from preflab.stats.intervals import Interval, t_quantile


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
    critical = np.array([_critical(int(each), 1 - level) for each in m])
    found = np.where(
        critical < 0,
        0.0,
        special.bdtr(np.maximum(critical, 0), m, share) + special.bdtr(np.maximum(critical, 0), m, 1 - share),
    )
    return float((chance * found).sum())


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


def _critical(m: int, alpha: float) -> int:
    """Return the largest k with 2 P(Binomial(m, 1/2) <= k) <= alpha, or -1."""
    tails = 2 * special.bdtr(np.arange(m // 2 + 1), m, 0.5) if m else np.ones(1)
    return int(np.searchsorted(tails, alpha * (1 + 1e-12), side="right")) - 1
