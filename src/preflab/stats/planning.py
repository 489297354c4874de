"""How many seeds or items a next study needs, from the variance of this one."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from numpy.typing import ArrayLike

from preflab.stats.comparisons import minimum_detectable_difference
from preflab.stats.intervals import Clusters, cluster_codes, table_of, variance_parts

_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Components:
    """Variances of paired differences by source, in squared units of the scores.

    The mean of S seeds and N items has the variance seeds / S + items / N + rest / (S N).

    Args:
        seeds: between seeds.
        items: between items (or clusters of them).
        rest: of what seeds and items do together, and of chance in a single answer.
        n_seeds: seeds behind the estimates.
        n_items: items, or clusters, behind them.
    """

    seeds: float
    items: float
    rest: float
    n_seeds: int
    n_items: int

    def detectable(self, n_seeds: int, n_items: int, *, power: float = 0.8, level: float = 0.95) -> float:
        """Return the true difference that so many seeds and items find with the given power.

        Degrees of freedom are Satterthwaite's (1946).
        """
        parts = (
            (self.seeds / n_seeds, n_seeds - 1),
            (self.items / n_items, n_items - 1),
            (self.rest / (n_seeds * n_items), (n_seeds - 1) * (n_items - 1)),
        )
        variance = sum(part for part, _ in parts)
        if variance == 0:
            return 0.0
        doubt = sum(part**2 / df for part, df in parts if part > 0 and df > 0)
        df = variance**2 / doubt if doubt > 0 else math.inf
        return minimum_detectable_difference(math.sqrt(variance), df, power=power, level=level)

    def seeds_needed(self, wanted: float, n_items: int | None = None) -> int | None:
        """Return the fewest seeds that find a difference four times in five with so many items; None where none do."""
        n = self.n_items if n_items is None else n_items
        return _fewest(lambda seeds: self.detectable(seeds, n) <= wanted)

    def items_needed(self, wanted: float, n_seeds: int | None = None) -> int | None:
        """Return the fewest items that find a difference four times in five with so many seeds; None where none do."""
        n = self.n_seeds if n_seeds is None else n_seeds
        return _fewest(lambda items: self.detectable(n, items) <= wanted)


def components(first: ArrayLike, second: ArrayLike, *, clusters: Clusters = None) -> Components:
    """Return the variance of the differences of two methods by source.

    Args:
        first: scores `[seed, item]`, at least two of each.
        second: of the same shape, row by row and column by column.
        clusters: label of the cluster of each item, `[item]`.

    Raises:
        ValueError: one seed or one item, different shapes, or scores that are not finite.
    """
    a, b = table_of(first), table_of(second)
    codes, n = cluster_codes(clusters, a.shape[1])
    if a.shape != b.shape or len(a) < 2 or n < 2:
        raise ValueError(f"components need two seeds and two items of both methods; got {a.shape} and {b.shape}")
    n_seeds = len(a)
    parts = variance_parts(a - b, codes, n)
    rest = parts.rest * n_seeds * n
    return Components(
        seeds=max(0.0, parts.seeds * n_seeds - rest / n),
        items=max(0.0, parts.items * n - rest / n_seeds),
        rest=rest,
        n_seeds=n_seeds,
        n_items=n,
    )


def _fewest(enough: Callable[[int], bool]) -> int | None:
    """Return the smallest number from 2 on that is enough, None beyond `_MOST`; what is enough stays enough."""
    low, high = 2, 2
    while not enough(high):
        if high == _MOST:
            return None
        low, high = high + 1, min(high * 2, _MOST)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return high
