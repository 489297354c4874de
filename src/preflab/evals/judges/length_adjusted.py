"""The length-adjusted win rate (length-only GLM): what the win rate would be if both answers were equally long."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from preflab.stats.intervals import (
    Clusters,
    FloatArray,
    Interval,
    Kind,
    cluster_codes,
    cluster_sums,
    t_quantile,
    wilson_interval,
)

_SLOPE_SD = 10.0
"""Standard deviation of the normal prior of the slope: weak, but it keeps the fit finite where length decides alone."""
_STEPS = 100


@dataclass(frozen=True, slots=True)
class LengthAdjusted:
    """A win rate adjusted for length.

    Args:
        rate: the rate at equal lengths, with an interval over items.
        slope: log-odds of winning for one unit of tanh(length difference / sd); above 0 the judge, or the task, likes
            longer answers.
    """

    rate: Interval
    slope: float


def length_adjusted_rate(
    preferences: ArrayLike,
    lengths: ArrayLike,
    baseline_lengths: ArrayLike,
    *,
    clusters: Clusters = None,
    level: float = 0.95,
) -> LengthAdjusted:
    """Fit a logistic GLM with soft labels on the length difference and predict at difference 0.

    logit E[y_i] = theta + phi x_i,  x_i = tanh((length_i - baseline_i) / sd),  rate = sigmoid(theta)

    The interval is that of theta, from the variance that is right also for labels between 0 and 1 (sandwich), carried
    to the rate. Where all labels are 0, or all are 1, no length can explain them: the raw rate with Wilson's interval.

    Args:
        preferences: labels in [0, 1], `[item]`; 1 where the answer beats the baseline's.
        lengths: characters of the answers, `[item]`.
        baseline_lengths: characters of the baseline's answers, `[item]`.
        clusters: label of the cluster of each item, `[item]`.
        level: confidence level in (0, 1).

    Raises:
        ValueError: empty input, different shapes, or labels outside [0, 1].

    References:
        Dubois et al., Length-Controlled AlpacaEval, 2024, arXiv:2404.04475, whose GLM has terms for the difficulty of
        instructions and a penalty from cross-validation besides: its rates differ from these, hence the other name.
        Papke and Wooldridge, Econometric methods for fractional response variables, 1996, for the variance.
    """
    y = np.asarray(preferences, dtype=np.float64)
    a, b = np.asarray(lengths, dtype=np.float64), np.asarray(baseline_lengths, dtype=np.float64)
    if y.ndim != 1 or y.size == 0 or not y.shape == a.shape == b.shape or not ((y >= 0) & (y <= 1)).all():
        raise ValueError(f"needs labels in [0, 1] and lengths of one shape [item]; got {y.shape}, {a.shape}, {b.shape}")
    difference = a - b
    codes, n_clusters = cluster_codes(clusters, len(y))
    if np.ptp(y) == 0 and y[0] in (0, 1):
        return LengthAdjusted(wilson_interval(float(y[0]) * n_clusters, n_clusters, level=level), 0.0)
    sd = float(difference.std())
    design = np.stack([np.ones_like(y), np.tanh(difference / sd) if sd > 0 else np.zeros_like(y)], axis=1)
    coefficients, curvature = _fit(design, y)
    theta, slope = float(coefficients[0]), float(coefficients[1])
    estimate = float(special.expit(theta))
    if n_clusters < 2:
        return LengthAdjusted(
            Interval(estimate, math.nan, math.nan, math.nan, n_clusters, 0.0, "clusters", level), slope
        )
    residual = y - special.expit(design @ coefficients)
    scores = np.stack([cluster_sums(residual * column, codes, n_clusters) for column in design.T], axis=1)
    inverse = np.linalg.inv(curvature)
    variance = (inverse @ (scores.T @ scores) @ inverse)[0, 0] * n_clusters / (n_clusters - 1)
    se = math.sqrt(max(float(variance), 0.0))
    half = t_quantile(0.5 + level / 2, n_clusters - 1) * se
    low, high = (float(special.expit(theta + sign * half)) for sign in (-1, 1))
    kind: Kind = "items" if n_clusters == len(y) else "clusters"
    interval = Interval(estimate, low, high, se * estimate * (1 - estimate), n_clusters, n_clusters - 1, kind, level)
    return LengthAdjusted(interval, slope)


def _fit(design: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return coefficients and curvature of the penalised log-likelihood: Newton's method with halved steps."""
    penalty = np.diag([0.0, 1 / _SLOPE_SD**2])

    def loss(at: FloatArray) -> float:
        z = design @ at
        return float(np.logaddexp(0, z).sum() - y @ z + at @ penalty @ at / 2)

    at = np.zeros(2)
    for _ in range(_STEPS):
        mean = special.expit(design @ at)
        gradient = design.T @ (mean - y) + penalty @ at
        curvature: FloatArray = design.T @ (design * (mean * (1 - mean))[:, None]) + penalty
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while loss(at - size * step) > loss(at) + 1e-12 and size > 1e-9:
            size /= 2
        at = at - size * step
        if np.abs(step).max() < 1e-10:
            break
    return at, curvature
