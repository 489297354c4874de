"""Scores of many runs on many tasks: interquartile mean, performance profiles and probability of improvement.

Tasks must be on one scale, such as shares of right answers or scores that are normalised; the mean of a task with
points up to 10 and one with shares is neither. Runs of a task are drawn for the intervals, tasks are not: they speak of
other runs on these tasks, not of other tasks.

References:
    Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice, 2021, arXiv:2108.13264,
    section 4, whose stratified bootstrap draws as many runs of each task as there are. Here it is one fewer, which
    makes the variance of a mean right for few runs (McCarthy and Snowden, The Bootstrap and Finite Population Sampling,
    1985); three runs drawn thrice show two thirds of it.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from preflab.stats.intervals import FloatArray, Interval, check_level, table_of, vector_of

_BLOCK = 2**22  # numbers drawn at once: 32 MiB


@dataclass(frozen=True, slots=True)
class Profile:
    """How often runs score more than a threshold.

    Args:
        thresholds: in the unit of the scores, `[threshold]`.
        shares: share of runs and tasks above each, with an interval for this threshold alone, `[threshold]`.
    """

    thresholds: Sequence[float]
    shares: Sequence[Interval]


def interquartile_mean(values: ArrayLike) -> float:
    """Return the mean of the middle half: a quarter of the values, rounded down, is cut at each end.

    Less swayed by one odd run than the mean, and steadier than the median.
    """
    return float(_middle(vector_of(values)))


def interquartile_interval(
    scores: ArrayLike, *, n_resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Interquartile mean over runs and tasks with a stratified bootstrap interval.

    Args:
        scores: finite scores on one scale, `[run, task]`.
        n_resamples: bootstrap samples.
        seed: seed of the resampling.
        level: confidence level in (0, 1).

    Returns:
        The interval; without bounds for a single run. `n` counts runs.

    Raises:
        ValueError: empty, non-finite or wrongly shaped scores, or a level out of range.
    """
    table = table_of(scores)
    samples = _samples(table, table.size, n_resamples, np.random.default_rng(seed))
    draws = [_middle(sample.reshape(len(sample), -1)) for sample in samples]
    return _interval(float(_middle(table.ravel())), np.concatenate(draws), len(table), level)


def performance_profile(
    scores: ArrayLike, thresholds: ArrayLike, *, n_resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> Profile:
    """Share of runs, averaged over tasks, that score more than each threshold.

    A method whose profile lies above another's everywhere is better at every level of ambition. Where all runs are on
    one side of a threshold the interval is a point, and no evidence that other runs would be there too.

    Args:
        scores: finite scores on one scale, `[run, task]`.
        thresholds: `[threshold]`.
        n_resamples: bootstrap samples.
        seed: seed of the resampling.
        level: confidence level of each threshold by itself, not of the whole band.

    Raises:
        ValueError: empty, non-finite or wrongly shaped input, or a level out of range.
    """
    table, at = table_of(scores), vector_of(thresholds)
    samples = _samples(table, table.size * len(at), n_resamples, np.random.default_rng(seed))
    draws = np.concatenate([(sample[..., None] > at).mean(axis=(1, 2)) for sample in samples])
    shares = (table[..., None] > at).mean(axis=(0, 1))
    intervals = [
        _interval(float(share), drawn, len(table), level) for share, drawn in zip(shares, draws.T, strict=True)
    ]
    return Profile(tuple(at.tolist()), tuple(intervals))


def probability_of_improvement(
    first: ArrayLike, second: ArrayLike, *, n_resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Probability that a run of the first method beats one of the second, ties as half, averaged over tasks.

    Per task it is the Mann-Whitney statistic over its largest value. It says how often, not by how much.

    Args:
        first: finite scores `[run, task]`.
        second: scores on the same tasks, `[run, task]`; the number of runs may differ.
        n_resamples: bootstrap samples.
        seed: seed of the resampling.
        level: confidence level in (0, 1).

    Returns:
        The interval; without bounds where a method has one run. `n` counts the runs of the method with fewer.

    Raises:
        ValueError: empty, non-finite or wrongly shaped scores, different tasks, or a level out of range.
    """
    a, b = table_of(first), table_of(second)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"both methods need scores [run, task] on the same tasks; got {a.shape} and {b.shape}")
    rng, cost = np.random.default_rng(seed), a.size * len(b)
    pairs = zip(_samples(a, cost, n_resamples, rng), _samples(b, cost, n_resamples, rng), strict=True)
    draws = np.concatenate([_wins(x, y) for x, y in pairs])
    return _interval(float(_wins(a[None], b[None])[0]), draws, min(len(a), len(b)), level)


def _middle(values: FloatArray) -> FloatArray:
    """Return the interquartile mean over the last axis."""
    n = values.shape[-1]
    middle: FloatArray = np.sort(values, axis=-1)[..., n // 4 : n - n // 4].mean(axis=-1)
    return middle


def _wins(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the share of pairs of runs won by the first, `[sample]` from `[sample, run, task]` twice."""
    shares: FloatArray = 0.5 + 0.5 * np.sign(first[:, :, None] - second[:, None]).mean(axis=(1, 2, 3))
    return shares


def _samples(table: FloatArray, cost: int, n_resamples: int, rng: np.random.Generator) -> Iterator[FloatArray]:
    """Yield drawn scores `[sample, run - 1, task]` in blocks of at most `_BLOCK / cost` samples.

    Every task draws its own runs. A single run, which leaves nothing to draw, is yielded as it is.
    """
    n_runs, n_tasks = table.shape
    step = max(1, _BLOCK // cost)
    for start in range(0, n_resamples, step):
        size = min(step, n_resamples - start), max(1, n_runs - 1), n_tasks
        yield table[rng.integers(n_runs, size=size), np.arange(n_tasks)]


def _interval(estimate: float, draws: FloatArray, n_runs: int, level: float) -> Interval:
    check_level(level)
    if n_runs < 2:
        return Interval(estimate, math.nan, math.nan, math.nan, n_runs, math.inf, "bootstrap", level)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high), float(draws.std(ddof=1)), n_runs, math.inf, "bootstrap", level)
