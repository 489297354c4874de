"""Comparing methods on answers of equal length, because a longer answer may score more for its length alone."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from preflab.stats.intervals import Clusters, FloatArray, Interval, check_level, cluster_codes, table_of

MIN_ITEMS = 20
"""Matched items from which on an interval is given: of 100 prompts and one seed, simulated coverage at 95 % is 71 %
with three matches, 83 % with five and 91 % with ten."""


@dataclass(frozen=True, slots=True)
class Matched:
    """The difference of two methods where their answers to the same prompt are about equally long.

    Args:
        difference: first less second over matched answers, with an interval over seeds and items; without bounds where
            fewer than `MIN_ITEMS` match, and without an estimate where nothing does.
        share: share of (seed, item) that match.
        n_items: items, or clusters of them, with a match.
    """

    difference: Interval
    share: float
    n_items: int


def matched_difference(
    first: ArrayLike,
    second: ArrayLike,
    first_lengths: ArrayLike,
    second_lengths: ArrayLike,
    *,
    tolerance: float = 0.1,
    clusters: Clusters = None,
    n_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Matched:
    """Compare two methods on the prompts and seeds for which their answers are about equally long.

    Coarsened exact matching within the prompt (Iacus, King and Porro, 2012): nothing is assumed of how length and score
    hang together, unlike in a regression on length (Dubois et al., 2024, arXiv:2404.04475). The price is that it speaks
    of the matched answers only: prompts on which a method always writes more say nothing.

    Args:
        first: scores `[seed, item]`.
        second: of the same shape, row by row and column by column.
        first_lengths: tokens of the first method's answers, of the same shape.
        second_lengths: of the second's.
        tolerance: largest difference of two lengths that count as equal, as a share of the longer one; one token
            always does.
        clusters: label of the cluster of each item, `[item]`.
        n_resamples: draws of seeds and clusters; of n units n - 1 are drawn.
        seed: seed of the resampling.
        level: confidence level in (0, 1).

    Raises:
        ValueError: different shapes, values that are not finite, a negative tolerance, or a level out of range.
    """
    a, b, la, lb = map(table_of, (first, second, first_lengths, second_lengths))
    check_level(level)
    if len({x.shape for x in (a, b, la, lb)}) != 1 or tolerance < 0:
        raise ValueError(
            f"scores and lengths need one shape and a tolerance >= 0; got {a.shape}, {la.shape}, {tolerance}"
        )
    same = np.abs(la - lb) <= np.maximum(1.0, tolerance * np.maximum(la, lb))
    codes, n = cluster_codes(clusters, a.shape[1])
    # By seed and cluster: sum of matched differences, and their number.
    sums, counts = (_by_cluster(x, codes, n) for x in (np.where(same, a - b, 0.0), same.astype(np.float64)))
    n_items, total = int((counts.sum(axis=0) > 0).sum()), counts.sum()
    if not total:
        empty = Interval(math.nan, math.nan, math.nan, math.nan, 0, math.inf, "bootstrap", level)
        return Matched(empty, 0.0, 0)
    estimate = float(sums.sum() / total)
    low = high = se = math.nan
    if n_items >= MIN_ITEMS:
        rng = np.random.default_rng(seed)
        seeds, items = (_counts(m, n_resamples, rng) for m in (len(a), n))
        drawn, weights = (np.einsum("sc,bs,bc->b", x, seeds, items, optimize=True) for x in (sums, counts))
        draws = drawn[weights > 0] / weights[weights > 0]
        low, high = map(float, np.quantile(draws, [(1 - level) / 2, (1 + level) / 2]))
        se = float(draws.std(ddof=1))
    return Matched(
        Interval(estimate, low, high, se, n_items, math.inf, "bootstrap", level), float(same.mean()), n_items
    )


def _by_cluster(table: FloatArray, codes: NDArray[np.intp], n: int) -> FloatArray:
    return np.stack([np.bincount(codes, weights=row, minlength=n) for row in table])


def _counts(n: int, n_resamples: int, rng: np.random.Generator) -> FloatArray:
    if n == 1:
        return np.ones((n_resamples, 1))
    return rng.multinomial(n - 1, np.full(n, 1 / n), size=n_resamples).astype(np.float64)
