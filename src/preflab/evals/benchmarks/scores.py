"""Per-item records to scores with intervals, and paired differences of two models on the same items."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preflab.core.errors import DataError
from preflab.evals.benchmarks.catalogue import Benchmark
from preflab.stats.comparisons import holm, minimum_detectable_difference, sign_flip_p
from preflab.stats.intervals import Interval, mean_interval, wilson_interval
from preflab.stats.proportions import mcnemar_p, paired_interval

Records = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Score:
    """A model's mean on a benchmark's metric.

    Args:
        benchmark: which one.
        metric: which of its metrics.
        interval: the mean with its 95 % interval over items, or over clusters of them.
    """

    benchmark: Benchmark
    metric: str
    interval: Interval


@dataclass(frozen=True, slots=True)
class Difference:
    """A model's score minus the baseline's, item by item.

    Args:
        benchmark: which one.
        metric: which of its metrics.
        interval: the mean difference with its 95 % interval.
        won: items on which the model does better than the baseline; of a metric where low is good, lower.
        lost: items on which it does worse.
        p: exact McNemar test where items are right or wrong and independent, else the sign-flip permutation test.
        test: which of the two.
        p_adjusted: the same after Holm's correction over everything that is compared.
        detectable: true difference that this comparison finds four times in five.
    """

    benchmark: Benchmark
    metric: str
    interval: Interval
    won: int
    lost: int
    p: float
    test: str
    detectable: float
    p_adjusted: float = math.nan

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `not told apart` at 5 % after correction."""
        if not self.p_adjusted < 0.05:
            return "not told apart"
        return "better" if (self.interval.estimate > 0) == self.benchmark.higher_is_better else "worse"


def score(benchmark: Benchmark, records: Records, metric: str | None = None) -> Score:
    """Return a score with its interval: Wilson for right or wrong, Student for shares; clusters count as units.

    Raises:
        DataError: there are no records.
    """
    metric = metric or benchmark.metric
    values, clusters = _values(benchmark, records, metric), _clusters(records)
    if clusters is None and _is_binary(values):
        return Score(benchmark, metric, wilson_interval(int(values.sum()), len(values)))
    return Score(benchmark, metric, mean_interval(values, clusters=clusters))


def difference(benchmark: Benchmark, records: Records, baseline: Records, metric: str | None = None) -> Difference:
    """Return the paired difference of two models on the same items.

    Raises:
        DataError: the records are not of the same items.
    """
    metric = metric or benchmark.metric
    if [each["item"] for each in records] != [each["item"] for each in baseline]:
        raise DataError(f"{benchmark.name}: the two results are not of the same items in the same order.")
    ours, theirs = _values(benchmark, records, metric), _values(benchmark, baseline, metric)
    gaps, clusters = ours - theirs, _clusters(records)
    better = gaps if benchmark.higher_is_better else -gaps
    won, lost = int((better > 0).sum()), int((better < 0).sum())
    binary = _is_binary(ours) and _is_binary(theirs)
    if binary and (clusters is None or not gaps.any()):
        # Where no item of any cluster changed, clusters are what could have changed.
        n = len(set(clusters)) if clusters else len(gaps)
        interval = paired_interval(int((gaps > 0).sum()), int((gaps < 0).sum()), n)
        p, test = mcnemar_p(won, lost), "McNemar"
    else:
        interval = mean_interval(gaps, clusters=clusters)
        p, test = float(sign_flip_p(gaps, clusters=clusters)[0]), "sign flip"
    detectable = minimum_detectable_difference(interval.se, interval.df)
    return Difference(benchmark, metric, interval, won, lost, p, test, detectable)


def corrected(differences: Sequence[Difference]) -> list[Difference]:
    """Return differences with their p-values corrected for all of them being asked at once."""
    adjusted = holm([each.p for each in differences])
    return [replace(each, p_adjusted=float(p)) for each, p in zip(differences, adjusted, strict=True)]


def _values(benchmark: Benchmark, records: Records, metric: str) -> NDArray[np.float64]:
    if not records:
        raise DataError(f"{benchmark.name}: no item was scored.")
    return np.array([each[metric] for each in records], dtype=np.float64)


def _is_binary(values: NDArray[np.float64]) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def _clusters(records: Records) -> list[str] | None:
    """Return the cluster of every item, or None where each item is its own."""
    labels = [str(each["cluster"]) or f"item {each['item']}" for each in records]
    return labels if len(set(labels)) < len(labels) else None
