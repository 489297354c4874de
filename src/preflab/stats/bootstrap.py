"""Bootstrap intervals: of a mean over items or clusters, of a mean over seeds and items; and how units are drawn."""

import math
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from preflab.stats.intervals import (
    Clusters,
    FloatArray,
    Interval,
    check_level,
    cluster_codes,
    cluster_sums,
    seed_interval,
    t_quantile,
    table_of,
    vector_of,
)

ENOUGH_SEEDS: Final = 10
"""Seeds from which `hierarchical_interval` draws seeds instead of trusting Student's t."""
_BLOCK = 2**22  # numbers drawn at once: 32 MiB


def bootstrap_interval(
    values: ArrayLike, *, clusters: Clusters = None, n_resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Bias-corrected and accelerated (BCa) bootstrap interval of a mean, resampling clusters of items.

    The interval of a paired difference is that of the differences, item by item.

    Args:
        values: one finite value per item, `[item]`.
        clusters: label of the cluster of each item, `[item]`.
        n_resamples: bootstrap samples.
        seed: seed of the resampling; the same seed gives the same interval.
        level: confidence level in (0, 1).

    Returns:
        The interval; without bounds where there is one cluster, a point where all values are equal.

    Raises:
        ValueError: empty, non-finite or wrongly shaped input, or a level out of range.

    References:
        Efron, Better Bootstrap Confidence Intervals, 1987.
    """
    x = vector_of(values)
    check_level(level)
    codes, n = cluster_codes(clusters, len(x))
    if n < 2:
        return Interval(float(x.mean()), math.nan, math.nan, math.nan, n, math.inf, "bootstrap", level)
    sums, sizes = cluster_sums(x, codes, n), np.bincount(codes, minlength=n).astype(np.float64)
    drawn = resampled_sums(np.stack([sums, sizes], axis=1), n_resamples, np.random.default_rng(seed))
    draws = drawn[:, 0] / drawn[:, 1]
    low, high = _bca_bounds(draws, float(x.mean()), (sums.sum() - sums) / (sizes.sum() - sizes), level)
    return Interval(float(x.mean()), low, high, float(draws.std(ddof=1)), n, math.inf, "bootstrap", level)


def hierarchical_interval(
    scores: ArrayLike, *, clusters: Clusters = None, n_resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Interval of a mean over seeds and items by drawing both, or over seed means where seeds are few.

    From ten seeds on, every sample draws seeds and, for all of them together, clusters of items, because all seeds
    answered the same ones. The quantiles are those whose distance fits a t interval over as many seeds: plain ones are
    too close by a tenth and more at ten. Fewer seeds cannot be drawn, as they have too few different samples; then the
    interval is `seed_interval`, which says nothing about other items, and its `kind` is "seeds" instead of "bootstrap".

    What seeds and items share, V_E of `crossed_interval`, is counted up to three times: the interval is wide where
    answers to single items are mostly chance. `crossed_interval` counts it once, and needs no ten seeds.

    Args:
        scores: finite scores `[seed, item]`.
        clusters: label of the cluster of each item, `[item]`.
        n_resamples: bootstrap samples.
        seed: seed of the resampling.
        level: confidence level in (0, 1).

    Returns:
        The interval; `n` counts seeds.

    Raises:
        ValueError: empty, non-finite or wrongly shaped input, or a level out of range.

    References:
        Owen, The Pigeonhole Bootstrap, 2007, arXiv:0712.1111, for drawing both; Hesterberg, What Teachers Should Know
        about the Bootstrap, 2014, arXiv:1411.5279, section 5.3, for the quantiles.
    """
    table = table_of(scores)
    check_level(level)
    n_seeds = len(table)
    if n_seeds < ENOUGH_SEEDS:
        return seed_interval(table.mean(axis=1), level=level)
    codes, n = cluster_codes(clusters, table.shape[1])
    rng = np.random.default_rng(seed)
    seeds = resampled_sums(np.eye(n_seeds), n_resamples, rng) / n_seeds
    sums = np.stack([cluster_sums(row, codes, n) for row in table], axis=1)
    units = np.column_stack([sums, np.bincount(codes, minlength=n)])
    drawn = resampled_sums(units, n_resamples, rng)
    draws = (seeds * drawn[:, :-1]).sum(axis=1) / drawn[:, -1]
    wide = math.sqrt(n_seeds / (n_seeds - 1)) * t_quantile(0.5 + level / 2, n_seeds - 1)
    low, high = np.quantile(draws, special.ndtr([-wide, wide]))
    return Interval(float(table.mean()), float(low), float(high), float(draws.std(ddof=1)), n_seeds, n_seeds - 1,
                    "bootstrap", level)  # fmt: skip


def resampled_sums(units: FloatArray, n_resamples: int, rng: np.random.Generator) -> FloatArray:
    """Return column sums of `[unit, column]` over as many units drawn with replacement, `[resample, column]`.

    Memory stays bounded: draws are made in blocks, and the blocks do not change what is drawn.
    """
    n = len(units)
    step = max(1, _BLOCK // n)
    blocks = [
        rng.multinomial(n, np.full(n, 1 / n), size=min(step, n_resamples - start)) @ units
        for start in range(0, n_resamples, step)
    ]
    return np.concatenate(blocks)


def _bca_bounds(draws: FloatArray, estimate: float, jackknife: FloatArray, level: float) -> tuple[float, float]:
    if np.ptp(draws) == 0:
        return estimate, estimate
    # Draws that equal the estimate count half, so that coarse values (0/1 scores) do not bias the correction.
    below = (np.mean(draws < estimate) + np.mean(draws <= estimate)) / 2
    bias = float(special.ndtri(np.clip(below, 1 / (2 * len(draws)), 1 - 1 / (2 * len(draws)))))
    deviations = jackknife.mean() - jackknife
    spread = float((deviations**2).sum()) ** 1.5
    acceleration = float((deviations**3).sum()) / (6 * spread) if spread > 0 else 0.0
    z = special.ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
    shifted = bias + (bias + z) / (1 - acceleration * (bias + z))
    low, high = np.quantile(draws, special.ndtr(shifted))
    return float(low), float(high)
