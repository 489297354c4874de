"""Who is best, on which prompts and from which start point, and how sure that is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from preflab.report.tables import FloatArray, Group, Measure
from preflab.stats.comparisons import Comparison, holm, paired_comparison, sign_flip_p
from preflab.stats.intervals import (
    Interval,
    crossed_interval,
    mean_interval,
    own_seed_variance,
    seed_interval,
    wilson_interval,
)
from preflab.stats.ranking import rank
from preflab.stats.seeds import SeedVariance, moderated, scaled, together

POOLED = "all start points"
SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True)
class RankedMethod:
    """One line of a ranking.

    Args:
        method: name of the method.
        overall: mean score with items and seeds random; the interval to quote.
        over_items: the same mean for these trained models only.
        over_seeds: the same mean for these items only.
        seed_means: mean score of every seed, `[seed]`.
        seeds: the seeds.
        gain: comparison with the start point, None when that was not evaluated.
        p_gain: p-value of `gain`, adjusted by Holm over the methods of this ranking; NaN without one.
        behind: comparison of the best method with this one (positive: the best is better), None for the best itself.
        p_adjusted: p-value of `behind`, adjusted by Holm over all pairs of methods, because the data chose the best;
            NaN for the best.
        p_permutation: sign-flip test of `behind` over items of the differences averaged over seeds; NaN for the best.
        probability_best: share of bootstrap samples over items and seeds in which it wins.
        rank_low: best rank in the central 95 % of those samples.
        rank_high: worst rank likewise.
    """

    method: str
    overall: Interval
    over_items: Interval
    over_seeds: Interval
    seed_means: tuple[float, ...]
    seeds: tuple[int, ...]
    gain: Comparison | None
    p_gain: float
    behind: Comparison | None
    p_adjusted: float
    p_permutation: float
    probability_best: float
    rank_low: int
    rank_high: int

    @property
    def gained(self) -> bool:
        """Whether it is told apart above its start point at 5 %, or no start point was evaluated."""
        return self.gain is None or (self.p_gain < SIGNIFICANT and self.gain.difference.estimate > 0)

    @property
    def separable(self) -> bool:
        """Whether it is told apart from the best at 5 %."""
        return self.p_adjusted < SIGNIFICANT


@dataclass(frozen=True, slots=True)
class Ranking:
    """Methods in order of their mean score.

    Args:
        split: `test` or `ood`.
        start: a start point, or `POOLED` for the mean over all of them.
        size: training pairs.
        rows: the methods, best first.
        baseline: score of the start point itself, None when not evaluated.
        unranked: methods without a result here, with the reason.
        n_items: items behind every score.
    """

    split: str
    start: str
    size: int
    rows: tuple[RankedMethod, ...]
    baseline: Interval | None
    unranked: dict[str, str]
    n_items: int

    @property
    def contenders(self) -> tuple[RankedMethod, ...]:
        """The best method and those that cannot be told apart from it."""
        return tuple(row for row in self.rows if not row.separable)

    @property
    def settled(self) -> bool:
        """Whether the best of several methods is told apart from all others."""
        return len(self.rows) > 1 and len(self.contenders) == 1


@dataclass(frozen=True, slots=True)
class _Entry:
    """One method of a ranking: its scores `[seed, item]`, their seeds, and the variance due to them."""

    table: FloatArray
    seeds: tuple[int, ...]
    variance: SeedVariance | None


def rank_methods(scores: Measure, start: str, size: int) -> Ranking:
    """Rank the methods that were trained from one start point with one number of pairs."""
    variances = seed_variances(scores, size)
    entries = {
        group.method: _Entry(table, scores.seeds[group], variances[group])
        for group, table in scores.values.items()
        if group.method and (group.start, group.size) == (start, size)
    }
    return _rank(scores, start, size, entries, scores.values.get(Group(start, "", 0)), {})


def rank_pooled(scores: Measure, size: int) -> Ranking:
    """Rank methods by their mean over all start points; a method that lacks one is not ranked, with the reason."""
    groups = [g for g in scores.values if g.method and g.size == size]
    starts = list(dict.fromkeys(g.start for g in groups))
    tables: dict[str, FloatArray] = {}
    kept: dict[str, tuple[int, ...]] = {}
    unranked: dict[str, str] = {}
    for method in dict.fromkeys(g.method for g in groups):
        missing = [start for start in starts if Group(start, method, size) not in scores.values]
        common = _common_seeds(scores, [Group(s, method, size) for s in starts if s not in missing])
        if missing or not common:
            unranked[method] = f"no result from {', '.join(missing)}" if missing else "no seed finished from all starts"
            continue
        parts = [_rows(scores, Group(start, method, size), common) for start in starts]
        tables[method], kept[method] = np.mean(parts, axis=0), common
    variances = moderated([own_seed_variance(table, clusters=scores.clusters) for table in tables.values()])
    entries = {m: _Entry(tables[m], kept[m], v) for m, v in zip(tables, variances, strict=True)}
    bases = [scores.values.get(Group(start, "", 0)) for start in starts]
    known = [base.mean(axis=0, keepdims=True) for base in bases if base is not None]
    baseline = np.mean(known, axis=0) if known and len(known) == len(starts) else None
    return _rank(scores, POOLED, size, entries, baseline, unranked)


def seed_variances(scores: Measure, size: int) -> dict[Group, SeedVariance | None]:
    """Return the variance due to seeds of every group of a size, moderated among methods and start points.

    Amounts such as KL differ by orders of magnitude between methods, and so do their variances; they resemble each
    other relative to the mean.
    """
    tables = {group: table for group, table in scores.values.items() if group.size == size}
    if not scores.rows:
        return dict.fromkeys(tables)
    scales = [max(float(t.mean()) ** 2, 1e-12) if scores.is_amount else 1.0 for t in tables.values()]
    own = [own_seed_variance(t, clusters=scores.clusters) for t in tables.values()]
    relative = moderated([scaled(v, 1 / scale) for v, scale in zip(own, scales, strict=True)])
    return {group: scaled(v, scale) for group, v, scale in zip(tables, relative, scales, strict=True)}


def group_intervals(scores: Measure) -> dict[Group, Interval]:
    """Return the interval over items and seeds of every group."""
    if not scores.rows:
        return {}
    variances: dict[Group, SeedVariance | None] = {}
    for size in dict.fromkeys(group.size for group in scores.values):
        variances |= seed_variances(scores, size)
    return {group: score_interval(table, scores, variances[group]) for group, table in scores.values.items()}


def score_interval(table: FloatArray, scores: Measure, variance: SeedVariance | None = None) -> Interval:
    """Return the interval over items and seeds of the mean of a `[seed, item]` table of a measure.

    Shares stay inside [0, 1] and amounts at 0 or more. Wilson's interval stands in where all outcomes are 0 or all are
    1: a t interval has no width there, as if 20 right answers of 20 proved perfection.
    """
    found = crossed_interval(table, clusters=scores.clusters, seed_variance=variance)
    n = len(set(scores.clusters))
    if scores.is_rate and n > 1 and found.estimate in (0.0, 1.0):
        return wilson_interval(found.estimate * n, n)
    if scores.is_rate or scores.is_amount:
        found = replace(found, low=float(np.maximum(found.low, 0.0)))
    return replace(found, high=float(np.minimum(found.high, 1.0))) if scores.is_rate else found


def _rank(
    scores: Measure,
    start: str,
    size: int,
    entries: dict[str, _Entry],
    baseline: FloatArray | None,
    unranked: dict[str, str],
) -> Ranking:
    n_items = len(scores.rows)
    base = None if baseline is None else score_interval(baseline, scores)
    if not entries or not n_items:
        return Ranking(scores.split, start, size, (), base, unranked, n_items)
    tables = {method: entry.table for method, entry in entries.items()}
    variances = {method: entry.variance for method, entry in entries.items()}
    places = rank(tables, clusters=scores.clusters, seed_variances=variances)
    order = [place.name for place in places]
    behind = {method: _compare(entries[order[0]], entries[method], scores) for method in order[1:]}
    pairs = math.comb(len(order), 2)  # which method is the best one was asked of the same data
    adjusted = dict(zip(behind, holm([c.p for c in behind.values()], family=pairs), strict=True))
    gains = {method: _gain(entry, baseline, scores) for method, entry in entries.items()}
    p_gains = holm([math.nan if gain is None else gain.p for gain in gains.values()])
    p_gain = dict(zip(gains, map(float, p_gains), strict=True))
    flips = _permutation(tables, order, scores)
    rows = []
    for place in places:
        entry = entries[place.name]
        rows.append(
            RankedMethod(
                method=place.name,
                overall=score_interval(entry.table, scores, entry.variance),
                over_items=mean_interval(entry.table.mean(axis=0), clusters=scores.clusters),
                over_seeds=seed_interval(entry.table.mean(axis=1)),
                seed_means=tuple(float(m) for m in entry.table.mean(axis=1)),
                seeds=entry.seeds,
                gain=gains[place.name],
                p_gain=p_gain[place.name],
                behind=behind.get(place.name),
                p_adjusted=float(adjusted.get(place.name, math.nan)),
                p_permutation=flips.get(place.name, math.nan),
                probability_best=place.probability_best,
                rank_low=place.rank_low,
                rank_high=place.rank_high,
            )
        )
    return Ranking(scores.split, start, size, tuple(rows), base, unranked, n_items)


def _permutation(tables: dict[str, FloatArray], order: list[str], scores: Measure) -> dict[str, float]:
    if len(order) < 2:
        return {}
    differences = [tables[order[0]].mean(axis=0) - tables[method].mean(axis=0) for method in order[1:]]
    p_values = sign_flip_p(np.stack(differences), clusters=scores.clusters, n_resamples=1999)
    return dict(zip(order[1:], map(float, p_values), strict=True))


def _compare(first: _Entry, second: _Entry, scores: Measure) -> Comparison:
    """Compare on the seeds both have; methods without a common seed by their means over seeds, items alone random."""
    common = [seed for seed in first.seeds if seed in second.seeds]
    if not common:
        means = [entry.table.mean(axis=0, keepdims=True) for entry in (first, second)]
        return paired_comparison(*means, clusters=scores.clusters)
    variance = together(*(scaled(entry.variance, len(entry.seeds) / len(common)) for entry in (first, second)))
    tables = [entry.table[[entry.seeds.index(seed) for seed in common]] for entry in (first, second)]
    return paired_comparison(*tables, clusters=scores.clusters, seed_variance=variance)


def _gain(entry: _Entry, baseline: FloatArray | None, scores: Measure) -> Comparison | None:
    if baseline is None:
        return None
    base = np.broadcast_to(baseline.mean(axis=0), entry.table.shape)
    return paired_comparison(entry.table, base, clusters=scores.clusters, seed_variance=entry.variance)


def compare_groups(scores: Measure, first: Group, second: Group) -> Comparison:
    """Compare any two groups on the same items."""
    entries = [_Entry(scores.values[g], scores.seeds[g], seed_variances(scores, g.size)[g]) for g in (first, second)]
    return _compare(entries[0], entries[1], scores)


def gain_over_start(scores: Measure, group: Group) -> Comparison | None:
    """Compare a group with its start point, as rankings do; None where one of them was not evaluated."""
    if group not in scores.values:
        return None
    entry = _Entry(scores.values[group], scores.seeds[group], seed_variances(scores, group.size)[group])
    return _gain(entry, scores.values.get(Group(group.start, "", 0)), scores)


def _common_seeds(scores: Measure, groups: Sequence[Group]) -> tuple[int, ...]:
    if not groups:
        return ()
    shared = set.intersection(*(set(scores.seeds[group]) for group in groups))
    return tuple(sorted(shared))


def _rows(scores: Measure, group: Group, seeds: tuple[int, ...]) -> FloatArray:
    index = [scores.seeds[group].index(seed) for seed in seeds]
    result: FloatArray = scores.values[group][index]
    return result
