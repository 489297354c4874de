"""Which of several methods is best, and how often another draw of items and seeds would say otherwise."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from preflab.stats.bootstrap import resampled_sums
from preflab.stats.intervals import (
    Clusters,
    FloatArray,
    cluster_codes,
    cluster_sums,
    own_seed_variance,
)
from preflab.stats.seeds import SeedVariance, moderated


@dataclass(frozen=True, slots=True)
class Rank:
    """The place of one method.

    Args:
        name: the method.
        estimate: mean score.
        probability_best: share of bootstrap samples in which it has the highest mean; ties are shared.
        rank_low: best rank inside the central 95 % of the bootstrap (1 is best).
        rank_high: worst rank inside the central 95 %.
        n_seeds: seeds behind the estimate; with one seed only items were resampled.
    """

    name: str
    estimate: float
    probability_best: float
    rank_low: int
    rank_high: int
    n_seeds: int


def rank(
    scores: Mapping[str, ArrayLike],
    *,
    clusters: Clusters = None,
    seed_variances: Mapping[str, SeedVariance | None] | None = None,
    n_resamples: int = 2000,
    seed: int = 0,
) -> tuple[Rank, ...]:
    """Rank methods by mean score with a bootstrap over items and seeds.

    Items are drawn once per sample for all methods, because all answered the same ones. A bootstrap of two or three
    seeds would repeat them, so the deviation of the seeds is drawn from a t distribution with the `moderated` variance.

    Args:
        scores: for every method its scores `[seed, item]`, higher is better; the number of seeds may differ.
        clusters: label of the cluster of each item, `[item]`.
        seed_variances: variance of every mean due to its seeds, when better known than from these scores alone.
        n_resamples: bootstrap samples.
        seed: seed of the resampling.

    Returns:
        One entry per method, best estimate first; of equal estimates the likelier best.

    Raises:
        ValueError: no methods, or methods with different items.
    """
    tables = {name: np.asarray(values, dtype=np.float64) for name, values in scores.items()}
    if not tables or len({table.shape[1:] for table in tables.values()}) != 1:
        raise ValueError("ranking needs [seed, item] scores of at least one method, all with the same items")
    if seed_variances is None:
        own = [own_seed_variance(table, clusters=clusters) for table in tables.values()]
        seed_variances = dict(zip(tables, moderated(own), strict=True))
    draws = _draws(tables, clusters, seed_variances, n_resamples, np.random.default_rng(seed))
    best = draws == draws.max(axis=1, keepdims=True)
    shares = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    places = _places(draws)
    low, high = np.quantile(places, [0.025, 0.975], axis=0, method="nearest")
    ranks = [
        Rank(name, float(table.mean()), float(shares[k]), int(low[k]), int(high[k]), len(table))
        for k, (name, table) in enumerate(tables.items())
    ]
    return tuple(sorted(ranks, key=lambda r: (-r.estimate, -r.probability_best)))


def _draws(
    tables: Mapping[str, FloatArray],
    clusters: Clusters,
    variances: Mapping[str, SeedVariance | None],
    n_resamples: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Return the mean of every method in every bootstrap sample, `[resample, method]`."""
    codes, n_clusters = cluster_codes(clusters, next(iter(tables.values())).shape[1])
    columns = [cluster_sums(table.mean(axis=0), codes, n_clusters) for table in tables.values()]
    units = np.stack([*columns, np.bincount(codes, minlength=n_clusters)], axis=1)
    drawn = resampled_sums(units, n_resamples, rng)
    deviations = [_seed_deviation(variances[name], n_resamples, rng) for name in tables]
    return drawn[:, :-1] / drawn[:, -1:] + np.stack(deviations, axis=1)


def _seed_deviation(variance: SeedVariance | None, n: int, rng: np.random.Generator) -> FloatArray:
    """Return what other seeds might have added to the mean, `[resample]`, beyond the noise that drawing items shows."""
    own = 0.0 if variance is None else variance.value - variance.noise
    if variance is None or own <= 0:
        return np.zeros(n)
    return math.sqrt(own) * rng.standard_t(variance.df, size=n)


def _places(draws: FloatArray) -> NDArray[np.intp]:
    """Return the rank of every method in every sample, 1 is best; tied methods share the best place."""
    places: NDArray[np.intp] = 1 + (draws[:, None, :] > draws[:, :, None]).sum(axis=2)
    return places
