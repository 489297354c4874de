"""Paired comparisons of two methods on the same items: differences, tests, corrections and their power."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from preflab.stats.intervals import (
    Clusters,
    FloatArray,
    Interval,
    cluster_codes,
    cluster_sums,
    crossed_interval,
    mean_interval,
    t_quantile,
    table_of,
)
from preflab.stats.seeds import SeedVariance

_EXACT_UNITS = 12  # 2^12 sign patterns cost less than the default number of random ones
_BLOCK = 2**22  # signs drawn at once: 32 MiB


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the paired scores of two methods say about their difference.

    Args:
        difference: mean of (first - second) with its interval over items and seeds.
        p: two-sided p-value of the difference with items and seeds random; NaN where no spread can be estimated.
        p_items: two-sided paired t test over items of the differences averaged over seeds: these trained models only.
        minimum_detectable: the true difference this comparison finds with 80 % power at 5 %.
        correlation: Pearson correlation of the two methods' item scores; NaN when one is constant.
        n_items: items compared.
        n_seeds: seeds compared.
    """

    difference: Interval
    p: float
    p_items: float
    minimum_detectable: float
    correlation: float
    n_items: int
    n_seeds: int


def paired_comparison(
    first: ArrayLike,
    second: ArrayLike,
    *,
    clusters: Clusters = None,
    seed_variance: SeedVariance | None = None,
    level: float = 0.95,
) -> Comparison:
    """Compare two methods that answered the same items with the same seeds.

    Args:
        first: scores `[seed, item]`.
        second: scores of the same shape; row s and column i belong together.
        clusters: label of the cluster of each item, `[item]`.
        seed_variance: variance of the mean difference due to seeds, when better known than from these seeds alone
            (`together` of the two methods' `moderated` ones).
        level: confidence level of the interval.

    Raises:
        ValueError: the shapes differ, or a score is not finite.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"paired scores must have one shape [seed, item]; got {a.shape} and {b.shape}")
    difference = crossed_interval(a - b, clusters=clusters, seed_variance=seed_variance, level=level)
    over_items = mean_interval((a - b).mean(axis=0), clusters=clusters, level=level)
    return Comparison(
        difference=difference,
        p=two_sided_p(difference),
        p_items=two_sided_p(over_items),
        minimum_detectable=minimum_detectable_difference(difference.se, difference.df),
        correlation=_correlation(a.mean(axis=0), b.mean(axis=0)),
        n_items=a.shape[1],
        n_seeds=a.shape[0],
    )


def two_sided_p(interval: Interval, null: float = 0.0) -> float:
    """Return the p-value of the t test that belongs to an interval; NaN when the interval has no bounds.

    Where all n values are the same, a t test would be certain of any of them; the sign test says 2^(1 - n).
    """
    if math.isnan(interval.se):
        return math.nan
    distance = abs(interval.estimate - null)
    if interval.se == 0:
        return 1.0 if distance == 0 else 2.0 ** (1 - interval.n)
    t = distance / interval.se
    return float(2 * (special.ndtr(-t) if math.isinf(interval.df) else special.stdtr(interval.df, -t)))


def sign_flip_p(
    differences: ArrayLike, *, clusters: Clusters = None, n_resamples: int = 4999, seed: int = 0
) -> FloatArray:
    """Permutation test of mean difference zero: the signs of whole clusters are exchangeable under the null hypothesis.

    All sign patterns are tried up to 12 clusters, else `n_resamples` random ones, with the observed one counted in.

    Args:
        differences: paired differences `[comparison, item]` or `[item]`.
        clusters: label of the cluster of each item, `[item]`.
        n_resamples: random sign patterns; the smallest p-value is 1 / (n_resamples + 1).
        seed: seed of the patterns.

    Returns:
        Two-sided p-values `[comparison]`.

    Raises:
        ValueError: empty, non-finite or wrongly shaped differences.
    """
    table = table_of(np.atleast_2d(np.asarray(differences, dtype=np.float64)))
    codes, n = cluster_codes(clusters, table.shape[1])
    sums = np.stack([cluster_sums(row, codes, n) for row in table], axis=1)
    if n <= _EXACT_UNITS:
        patterns = np.arange(2**n)[:, None] >> np.arange(n)[None, :]
        flipped = (1.0 - 2.0 * (patterns & 1)) @ sums
        extra = 0
    else:
        rng, step = np.random.default_rng(seed), max(1, _BLOCK // n)
        sizes = [min(step, n_resamples - start) for start in range(0, n_resamples, step)]
        flipped = np.concatenate([rng.choice([-1.0, 1.0], size=(size, n)) @ sums for size in sizes])
        extra = 1
    observed = np.abs(sums.sum(axis=0))
    # Equal sums reached in another order of additions must count as equal.
    at_least = (np.abs(flipped) >= observed * (1 - 1e-9) - 1e-12).sum(axis=0)
    result: FloatArray = (at_least + extra) / (len(flipped) + extra)
    return result


def holm(p_values: Sequence[float], *, family: int = 0) -> NDArray[np.float64]:
    """Return p-values adjusted for asking several questions at once, in the order given; NaN stays NaN, uncounted.

    Args:
        p_values: of the questions.
        family: how many questions there were, where data chose which of them are asked here: all pairs of methods, for
            comparisons with the best one. Their p-values count as 1.

    References:
        Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979.
    """
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full_like(p, np.nan)
    asked = np.flatnonzero(~np.isnan(p))
    order = asked[np.argsort(p[asked], kind="stable")]
    stepped = p[order] * np.arange(max(family, len(order)), 0, -1)[: len(order)]
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(stepped)) if len(order) else stepped
    return adjusted


def minimum_detectable_difference(se: float, df: float, *, power: float = 0.8, level: float = 0.95) -> float:
    """Return the true difference that a two-sided t test with this standard error finds with the given power.

    Solved on the non-central t distribution; (t_{1-alpha/2} + t_{power}) * se is its usual approximation.

    Args:
        se: standard error of the difference, in the unit of the scores.
        df: its degrees of freedom.
        power: probability of a significant result, in (0, 1).
        level: one minus the two-sided significance level.
    """
    if math.isnan(se) or df <= 0:
        return math.nan
    critical = t_quantile(0.5 + level / 2, df)
    if math.isinf(df):
        return se * (critical + t_quantile(power, math.inf))
    return se * float(special.nctdtrinc(df, 1 - power, critical))


def items_needed(n_items: int, detectable: float, wanted: float) -> int:
    """Return how many items would make `wanted` detectable if items limit the comparison (se ~ 1/sqrt(n))."""
    if not (math.isfinite(detectable) and math.isfinite(wanted)) or wanted == 0:
        raise ValueError(f"needs finite differences other than 0; got {detectable} and {wanted}")
    return math.ceil(n_items * (detectable / wanted) ** 2)


def _correlation(a: FloatArray, b: FloatArray) -> float:
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])
