"""What a method gives to those who search little: expected best of k settings, stability of ranks, main effects.

A method's grid is a declared set of settings, no sample of a population, so the grid stays fixed and intervals speak of
other seeds and other items. Only rank stability also draws settings, to ask whether another choice of grid points would
have turned the order.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from preflab.stats.intervals import Clusters, FloatArray, Interval, cluster_codes, crossed_interval


@dataclass(frozen=True, slots=True)
class Grid:
    """The scores of one method over its settings.

    Args:
        values: finite scores `[setting, seed, item]`, all settings with the same seeds and items.
        chosen_by: what a search would choose by, `[setting]`, higher is better: the validation score, so that the
            scores it reports are not those it chose by. `-inf` for a setting that no search would choose. Both scores
            come of the same trainings: a lucky one helps both, so the best of many equal settings is a little too high.
    """

    values: FloatArray
    chosen_by: FloatArray

    def __post_init__(self) -> None:
        values, order = np.asarray(self.values, dtype=np.float64), np.asarray(self.chosen_by, dtype=np.float64)
        if values.ndim != 3 or not values.size or not np.isfinite(values).all():
            raise ValueError(f"a grid needs finite scores [setting, seed, item]; got shape {values.shape}")
        if order.shape != values.shape[:1] or np.isnan(order).any():
            raise ValueError(f"a grid needs one number per setting to choose by; got {order.shape} for {len(values)}")
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "chosen_by", order)

    @property
    def means(self) -> FloatArray:
        """Mean score of every setting, `[setting]`."""
        return np.asarray(self.values.mean(axis=(1, 2)))


@dataclass(frozen=True, slots=True)
class Stability:
    """How often one method comes first, by what was drawn anew.

    Args:
        first: source of chance (`settings`, `seeds`, `items`, `all`) to method to share of draws in which it is first;
            ties are shared. Sources with one unit are absent.
        tau: source to mean Kendall correlation of the drawn order with the order found; 1 where nothing moves.
        tau_range: source to the range that holds 95 % of the draws of that correlation.
    """

    first: Mapping[str, Mapping[str, float]]
    tau: Mapping[str, float]
    tau_range: Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class MainEffect:
    """What one hyper-parameter does to the score of a method, averaged over the others.

    Args:
        levels: value to mean score over the settings that have it, in the order of the values.
        span: highest minus lowest level mean, with an interval over seeds and items; the two levels are those of the
            point estimate.
        share: share of the variance between settings that the level means explain, 0 to 1. In a full grid the shares of
            all hyper-parameters and of their interactions add up to 1; elsewhere effects can stand for each other.
    """

    levels: Mapping[Hashable, float]
    span: Interval
    share: float


def expected_best(values: ArrayLike, chosen_by: ArrayLike | None = None) -> FloatArray:
    """Expected score after trying k different settings at random and keeping the one chosen, for k = 1 .. n, `[k]`.

    Unbiased for every k: the mean over all subsets of size k. Drawing with replacement, as Dodge et al. do, counts a
    setting as its own rival and is biased downwards.

    Args:
        values: score of every setting, `[setting]`, or `[draw, setting]`.
        chosen_by: what the search chooses by, `[setting]`; default: `values`. Equal settings share the choice.

    Returns:
        `[k]`, or `[draw, k]`.

    Raises:
        ValueError: the shapes do not fit, or a number to choose by is NaN.

    References:
        Dodge et al., Show Your Work, 2019, arXiv:1909.03004, equation 6, for the idea; Tang et al., Showing Your Work
        Doesn't Always Work, 2020, arXiv:2004.13705, section 3, for the unbiased form.
    """
    x = np.asarray(values, dtype=np.float64)
    order = np.asarray(x if chosen_by is None else chosen_by, dtype=np.float64)
    if order.ndim != 1 or np.isnan(order).any():
        raise ValueError(f"settings are chosen by one number each, and none is NaN; got {order}")
    n = len(order)
    if x.shape[-1] != n:
        raise ValueError(f"{n} numbers to choose by for {x.shape[-1]} settings")
    i, k = np.arange(1, n + 1)[:, None], np.arange(1, n + 1)[None, :]
    # In a subset of size k the i-th smallest setting is the largest in C(i - 1, k - 1) of C(n, k) cases.
    weights = np.where(i >= k, np.exp(_log_comb(np.maximum(i - 1, k - 1), k - 1) - _log_comb(n, k)), 0.0)
    ranks = np.argsort(order, kind="stable")
    _, tied = np.unique(order[ranks], return_inverse=True)
    shared = np.zeros((int(tied.max()) + 1, n))
    np.add.at(shared, tied, weights)
    spread = shared[tied] / np.bincount(tied)[tied][:, None]
    return np.asarray(x[..., ranks] @ spread)


def expected_best_scores(grid: Grid, k: int) -> FloatArray:
    """Expected score of every seed and item after trying k different settings at random, `[seed, item]`.

    The expected best is a fixed mixture of the settings once it is settled what a search prefers, so two methods can be
    compared on it item by item and seed by seed, like two settings.

    Args:
        grid: scores of a method.
        k: settings tried, 1 to their number.

    Raises:
        ValueError: a k out of range.
    """
    n = len(grid.values)
    if not 1 <= k <= n:
        raise ValueError(f"k must be from 1 to the number of settings, {n}; got {k}")
    share = expected_best(np.eye(n), grid.chosen_by)[:, k - 1]
    return np.asarray(np.tensordot(share, grid.values, axes=1))


def expected_best_intervals(grid: Grid, *, clusters: Clusters = None, level: float = 0.95) -> tuple[Interval, ...]:
    """Expected best of k = 1 .. n settings, each with an interval over seeds and items.

    The order in which a search prefers settings stays what validation found.

    Raises:
        ValueError: a level out of range.
    """
    scores = (expected_best_scores(grid, k) for k in range(1, len(grid.values) + 1))
    return tuple(crossed_interval(table, clusters=clusters, level=level) for table in scores)


def resampled_means(
    grids: Sequence[Grid],
    *,
    clusters: Clusters = None,
    n_resamples: int = 1000,
    seed: int = 0,
    over: Sequence[str] = ("seeds", "items"),
) -> list[FloatArray]:
    """Mean score of every setting under draws of seeds and items, `[draw, setting]` for each grid.

    One draw takes the same items and, where grids have equally many, the same seeds for all grids, because they share
    both. Of n units n - 1 are drawn, which makes the variance of a mean right for few units (McCarthy and Snowden, The
    Bootstrap and Finite Population Sampling, 1985).

    Args:
        grids: with the same items.
        clusters: label of the cluster of each item, `[item]`.
        n_resamples: draws.
        seed: seed of the resampling.
        over: what is drawn: `seeds`, `items` or both.

    Raises:
        ValueError: no grids, or grids with different items.
    """
    if len({grid.values.shape[2] for grid in grids}) != 1:
        raise ValueError("resampling needs at least one grid, all with the same items")
    codes, n = cluster_codes(clusters, grids[0].values.shape[2])
    rng = np.random.default_rng(seed)
    drawn = _counts(n, n_resamples, rng) if "items" in over else np.ones((n_resamples, n))
    weights = drawn[:, codes] / drawn[:, codes].sum(axis=1, keepdims=True)
    by_seeds: dict[int, FloatArray] = {}
    result = []
    for grid in grids:
        n_seeds = grid.values.shape[1]
        if n_seeds not in by_seeds:
            counts = _counts(n_seeds, n_resamples, rng) if "seeds" in over else np.ones((n_resamples, n_seeds))
            by_seeds[n_seeds] = counts / counts.sum(axis=1, keepdims=True)
        result.append(np.einsum("tsi,bi,bs->bt", grid.values, weights, by_seeds[n_seeds], optimize=True))
    return result


def rank_stability(
    grids: Mapping[str, Grid],
    statistic: str,
    *,
    clusters: Clusters = None,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Stability:
    """How stable the order of methods is when settings, seeds and items are drawn anew, one by one and together.

    Args:
        grids: at least two methods on the same items.
        statistic: `best`, the score of the setting that validation chooses, or `median`, that of the middle setting.
        clusters: label of the cluster of each item, `[item]`.
        n_resamples: draws for every source.
        seed: seed of the resampling.

    Raises:
        ValueError: fewer than two methods, different items, or an unknown statistic.
    """
    if len(grids) < 2 or statistic not in ("best", "median"):
        raise ValueError(f"rank stability compares two methods or more by `best` or `median`; got {statistic!r}")
    found = np.array([_statistic(grid.means[None], grid.chosen_by[None], statistic)[0] for grid in grids.values()])
    n_items = cluster_codes(clusters, next(iter(grids.values())).values.shape[2])[1]
    units = {
        "settings": max(len(grid.values) for grid in grids.values()),
        "seeds": max(grid.values.shape[1] for grid in grids.values()),
        "items": n_items,
    }
    sources: dict[str, tuple[str, ...]] = {name: (name,) for name, n in units.items() if n > 1}
    if len(sources) > 1:
        sources["all"] = tuple(sources)
    first, tau, tau_range = {}, {}, {}
    for source, over in sources.items():
        rng = np.random.default_rng(seed)
        means = resampled_means(list(grids.values()), clusters=clusters, n_resamples=n_resamples, seed=seed, over=over)
        columns = []
        for grid, drawn in zip(grids.values(), means, strict=True):
            n = len(grid.values)
            # Of n settings n are drawn: the best of fewer would be lower by itself.
            places = rng.integers(n, size=(n_resamples, n)) if "settings" in over else np.arange(n)[None]
            places = np.broadcast_to(places, (n_resamples, n))
            columns.append(_statistic(np.take_along_axis(drawn, places, 1), grid.chosen_by[places], statistic))
        draws = np.stack(columns, axis=1)
        best = draws == draws.max(axis=1, keepdims=True)
        shares = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
        first[source] = dict(zip(grids, shares.tolist(), strict=True))
        taus = _kendall(draws, found)
        low, high = np.quantile(taus, [0.025, 0.975])
        tau[source], tau_range[source] = float(taus.mean()), (float(low), float(high))
    return Stability(first, tau, tau_range)


def main_effects(
    grid: Grid, settings: Sequence[Mapping[str, Hashable]], *, clusters: Clusters = None, level: float = 0.95
) -> dict[str, MainEffect]:
    """What every hyper-parameter that varies does to the score, averaged over the others.

    Args:
        grid: scores of the method.
        settings: the hyper-parameters of every setting, in the grid's order.
        clusters: label of the cluster of each item, `[item]`.
        level: confidence level in (0, 1).

    Raises:
        ValueError: not one entry per setting, or a level out of range.
    """
    if len(settings) != len(grid.values):
        raise ValueError(f"{len(settings)} settings for {len(grid.values)} rows of scores")
    means = grid.means
    total = float(((means - means.mean()) ** 2).sum())
    result = {}
    for name in dict.fromkeys(name for setting in settings for name in setting):
        column = [setting.get(name) for setting in settings]
        values = list(dict.fromkeys(column))
        if len(values) < 2:
            continue
        members = np.array([[value == mine for mine in column] for value in values], dtype=np.float64)
        members /= members.sum(axis=1, keepdims=True)
        levels = members @ means
        top, bottom = int(levels.argmax()), int(levels.argmin())
        span = np.tensordot(members[top] - members[bottom], grid.values, axes=1)
        between = float(((levels[[values.index(mine) for mine in column]] - means.mean()) ** 2).sum())
        order = sorted(range(len(values)), key=lambda k: _key(values[k]))
        result[name] = MainEffect(
            levels={values[k]: float(levels[k]) for k in order},
            span=crossed_interval(span, clusters=clusters, level=level),
            share=between / total if total > 0 else 0.0,
        )
    return result


def _statistic(means: FloatArray, chosen_by: FloatArray, statistic: str) -> FloatArray:
    """Return one number per draw from `[draw, setting]`."""
    if statistic == "median":
        return np.asarray(np.median(means, axis=1))
    chosen = chosen_by == chosen_by.max(axis=1, keepdims=True)
    return np.asarray((means * chosen).sum(axis=1) / chosen.sum(axis=1))


def _kendall(draws: FloatArray, found: FloatArray) -> FloatArray:
    """Return Kendall's tau-a of every draw `[draw, method]` with the order found; a pair tied in one of them adds 0."""
    n = len(found)
    i, j = np.triu_indices(n, 1)
    agree = np.sign(draws[:, i] - draws[:, j]) * np.sign(found[i] - found[j])
    return np.asarray(agree.mean(axis=1))


def _counts(n: int, n_resamples: int, rng: np.random.Generator) -> FloatArray:
    """Return how often each of n units is among n - 1 drawn ones, `[draw, unit]`; a single unit is always there."""
    if n == 1:
        return np.ones((n_resamples, 1))
    return rng.multinomial(n - 1, np.full(n, 1 / n), size=n_resamples).astype(np.float64)


def _log_comb(n: ArrayLike, k: ArrayLike) -> FloatArray:
    n, k = np.asarray(n, dtype=np.float64), np.asarray(k, dtype=np.float64)
    return np.asarray(special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1))


def _key(value: Hashable) -> tuple[bool, float, str]:
    number = isinstance(value, int | float)
    return (not number, float(value) if isinstance(value, int | float) else 0.0, str(value))
