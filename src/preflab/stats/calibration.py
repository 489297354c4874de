"""Are probabilities what they say? Reliability by bins, expected calibration error, Brier score and log-loss."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from preflab.stats.intervals import Interval, wilson_interval

_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Bin:
    """Forecasts of about the same probability.

    Args:
        low: lower edge.
        high: upper edge; the last bin holds 1.
        forecast: mean probability.
        observed: share that came true, with Wilson's interval; ties count half.
    """

    low: float
    high: float
    forecast: float
    observed: Interval


@dataclass(frozen=True, slots=True)
class Calibration:
    """How well probabilities fit what happened.

    Args:
        bins: reliability, without empty bins.
        error: expected calibration error, the mean distance of forecast and observed over bins, weighted by size. It is
            biased upwards on few forecasts: perfectly calibrated ones have about sqrt(bins / n) / 2.
        brier: mean squared distance of probability and outcome; 0.25 for forecasts of one half.
        log_loss: mean negative log-probability of what happened, nats; log 2 for forecasts of one half.
        n: forecasts.
    """

    bins: Sequence[Bin]
    error: float
    brier: float
    log_loss: float
    n: int


def calibration(probabilities: ArrayLike, outcomes: ArrayLike, *, n_bins: int = 10) -> Calibration:
    """Compare probabilities with outcomes.

    Args:
        probabilities: forecasts in [0, 1], `[n]`.
        outcomes: what happened, 0 or 1, or one half for a tie, `[n]`.
        n_bins: bins of equal width.

    Raises:
        ValueError: no forecasts, other shapes, or values out of range.

    References:
        Guo et al., On Calibration of Modern Neural Networks, 2017, arXiv:1706.04599, eq. 3.
    """
    p, y = (np.asarray(values, dtype=np.float64) for values in (probabilities, outcomes))
    if p.ndim != 1 or p.shape != y.shape or not len(p):
        raise ValueError(f"needs as many probabilities as outcomes, at least one; got shapes {p.shape} and {y.shape}")
    if not (((p >= 0) & (p <= 1)).all() and ((y >= 0) & (y <= 1)).all()):
        raise ValueError("probabilities and outcomes must be in [0, 1]")
    place = np.minimum((p * n_bins).astype(int), n_bins - 1)
    bins = [_bin(k, n_bins, p[place == k], y[place == k]) for k in range(n_bins) if (place == k).any()]
    gaps = sum(bin.observed.n * abs(bin.forecast - bin.observed.estimate) for bin in bins)
    safe: NDArray[np.float64] = np.clip(p, _TINY, 1 - _TINY)
    return Calibration(
        bins=bins,
        error=float(gaps / len(p)),
        brier=float(((p - y) ** 2).mean()),
        log_loss=float(-(y * np.log(safe) + (1 - y) * np.log1p(-safe)).mean()),
        n=len(p),
    )


def _bin(k: int, n_bins: int, p: NDArray[np.float64], y: NDArray[np.float64]) -> Bin:
    return Bin(k / n_bins, (k + 1) / n_bins, float(p.mean()), wilson_interval(float(y.sum()), len(y)))
