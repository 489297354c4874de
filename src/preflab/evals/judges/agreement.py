"""How well a judge agrees with people, before it is trusted: accuracy and Cohen's kappa on pairs with known winners."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from preflab.stats.intervals import FloatArray, Interval, wilson_interval

_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of two raters.

    Args:
        accuracy: share of pairs with the same label; a judge's tie agrees only with a tie.
        kappa: Cohen's kappa with a bootstrap interval; NaN where both raters know a single label.
        ties: the judge's ties.
        n: pairs.
    """

    accuracy: Interval
    kappa: Interval
    ties: int
    n: int


def agreement(judged: ArrayLike, human: ArrayLike, *, seed: int = 0, level: float = 0.95) -> Agreement:
    """Compare a judge's labels with people's.

    kappa = (p_o - p_e) / (1 - p_e),  p_o = share of equal labels, p_e = what the labels' frequencies alone would give

    Args:
        judged: labels `[pair]`: 1 first is better, 0 tie, -1 second is better.
        human: the same by people.
        seed: of the bootstrap over pairs (2,000 samples, percentiles).
        level: confidence level in (0, 1).

    Raises:
        ValueError: empty input, different shapes, or other labels.

    References:
        Cohen, A Coefficient of Agreement for Nominal Scales, 1960.
    """
    a, b = np.asarray(judged), np.asarray(human)
    if a.ndim != 1 or a.size == 0 or a.shape != b.shape or not np.isin(np.concatenate([a, b]), (-1, 0, 1)).all():
        raise ValueError(f"labels must be -1, 0 or 1 in two vectors of one length; got {a.shape} and {b.shape}")
    table = np.zeros((3, 3))
    np.add.at(table, (a.astype(int) + 1, b.astype(int) + 1), 1)
    n = len(a)
    draws = np.random.default_rng(seed).multinomial(n, table.ravel() / n, size=_RESAMPLES).reshape(-1, 3, 3)
    kappas = _kappa(draws.astype(np.float64))
    kappas = kappas[np.isfinite(kappas)]
    low, high = np.quantile(kappas, [(1 - level) / 2, (1 + level) / 2]) if len(kappas) else (math.nan, math.nan)
    se = float(kappas.std(ddof=1)) if len(kappas) > 1 else math.nan
    kappa = Interval(float(_kappa(table[None])[0]), float(low), float(high), se, n, math.inf, "bootstrap", level)
    accuracy = wilson_interval(float(np.trace(table)), n, level=level)
    return Agreement(accuracy, kappa, ties=int((a == 0).sum()), n=n)


def _kappa(tables: FloatArray) -> FloatArray:
    """Return kappa of each table of counts, `[sample, label, label]`."""
    n = tables.sum(axis=(1, 2))
    observed = np.trace(tables, axis1=1, axis2=2) / n
    expected = (tables.sum(axis=1) * tables.sum(axis=2)).sum(axis=1) / n**2
    with np.errstate(invalid="ignore"):
        kappas: FloatArray = np.where(
            expected < 1, (observed - expected) / np.where(expected < 1, 1 - expected, 1), np.nan
        )
    return kappas
