"""Strengths of players from battles: the Bradley-Terry model."""

import math

import numpy as np
from numpy.typing import ArrayLike

from preflab.stats.bootstrap import resampled_sums
from preflab.stats.intervals import Clusters, FloatArray, Interval, check_level, cluster_codes

_SD = 10.0
"""Standard deviation of the normal prior of a strength, nats."""
_STEPS = 50


def strengths(
    winners: ArrayLike,
    losers: ArrayLike,
    weights: ArrayLike,
    *,
    n_players: int,
    anchor: int = 0,
    clusters: Clusters = None,
    n_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[Interval, ...]:
    """Fit P(i beats j) = sigmoid(s_i - s_j) and return every strength with a bootstrap interval over clusters.

    A tie is two battles of half the weight. A weak prior, s ~ N(0, 10^2), keeps players finite who won or lost all; it
    moves a strength s that rests on n battles by about s / (100 n p (1 - p)). Elo points are 400 s / ln 10.

    Args:
        winners: index of the winner of each battle, `[battle]`.
        losers: index of its loser, `[battle]`.
        weights: how much it counts, `[battle]`, positive.
        n_players: number of players.
        anchor: the player whose strength is 0.
        clusters: label of the cluster of each battle, `[battle]`, such as its item; these are drawn, not battles.
        n_resamples: bootstrap samples.
        seed: of the bootstrap.
        level: confidence level in (0, 1).

    Returns:
        One interval per player, nats above the anchor (percentiles of the bootstrap).

    Raises:
        ValueError: arrays that do not fit together, a player against itself, or an unknown player.

    References:
        Bradley and Terry, Rank Analysis of Incomplete Block Designs, 1952.
    """
    check_level(level)
    won, lost, weight = (
        np.asarray(winners, dtype=np.intp),
        np.asarray(losers, dtype=np.intp),
        np.asarray(weights, float),
    )
    if won.ndim != 1 or won.size == 0 or not won.shape == lost.shape == weight.shape:
        raise ValueError(
            f"battles need winners, losers, weights [battle]; got {won.shape}, {lost.shape}, {weight.shape}"
        )
    players = np.concatenate([won, lost])
    if (won == lost).any() or not ((players >= 0) & (players < n_players)).all() or not (weight > 0).all():
        raise ValueError(f"battles must be between two of {n_players} players, with weights above 0")
    codes, n_clusters = cluster_codes(clusters, len(won))
    flat = np.zeros((n_clusters, n_players * n_players))
    np.add.at(flat, (codes, won * n_players + lost), weight)
    drawn = resampled_sums(flat, n_resamples, np.random.default_rng(seed))
    tables = np.concatenate([flat.sum(axis=0)[None], drawn]).reshape(-1, n_players, n_players)
    fitted = _fit(tables, anchor)
    bounds = np.quantile(fitted[1:], [(1 - level) / 2, (1 + level) / 2], axis=0)
    spread = fitted[1:].std(axis=0, ddof=1)
    return tuple(
        Interval(float(fitted[0, k]), float(bounds[0, k]), float(bounds[1, k]), float(spread[k]), n_clusters, math.inf,
                 "bootstrap", level)
        for k in range(n_players)
    )  # fmt: skip


def _fit(wins: FloatArray, anchor: int) -> FloatArray:
    """Return strengths `[table, player]` of tables of weighted wins `[table, winner, loser]`: Newton's method."""
    n_tables, n_players, _ = wins.shape
    games = wins + wins.transpose(0, 2, 1)
    at = np.zeros((n_tables, n_players))
    eye = np.eye(n_players)
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(at[:, None, :] - at[:, :, None]))
        gradient = (wins - games * p).sum(axis=2) - at / _SD**2
        information = games * p * (1 - p)
        hessian = information.sum(axis=2)[:, :, None] * eye - information + eye / _SD**2
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        # Newton overshoots where a player won nearly all; steps of at most one nat still arrive quickly.
        at = at + step / np.maximum(1.0, np.abs(step).max(axis=1, keepdims=True))
        if np.abs(step).max() < 1e-9:
            break
    return at - at[:, [anchor]]
