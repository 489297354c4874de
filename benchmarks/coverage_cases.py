"""The worlds in which intervals are tried: each draws data whose truth is known and returns intervals beside it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from preflab.evals.judges.length_adjusted import length_adjusted_rate
from preflab.stats.aggregates import interquartile_interval, performance_profile, probability_of_improvement
from preflab.stats.bootstrap import bootstrap_interval, hierarchical_interval
from preflab.stats.bradley_terry import strengths
from preflab.stats.calibration import calibration
from preflab.stats.intervals import (
    Interval,
    crossed_interval,
    crossed_intervals,
    mean_interval,
    seed_interval,
    wilson_interval,
)
from preflab.stats.proportions import paired_interval
from preflab.stats.ranking import rank
from preflab.stats.win_rates import win_rate

Array = NDArray[np.float64]
Tried = Sequence[tuple[Interval, float]]
Resampled = 1000
"""Bootstrap samples of every bootstrap interval here."""


@dataclass(frozen=True, slots=True)
class Case:
    """One interval in one world.

    Args:
        interval: the function's name, and the heading of its table.
        world: what data it sees, in words.
        draw: data and interval from a generator, with the truth; several where one draw gives several.
        n_draws: repetitions.
    """

    interval: str
    world: str
    draw: Callable[[np.random.Generator], Tried]
    n_draws: int = 4000


def cases() -> Iterator[Case]:
    """Yield every case, those of one interval together."""
    yield from _shares()
    yield from _means()
    yield from _bootstrapped_means()
    yield from _pairs()
    yield from _seeds()
    yield from _seeds_and_items()
    yield from _hierarchies()
    yield from _win_rates()
    yield from _battles()
    yield from _aggregates()
    yield from _calibrations()
    yield from _ranks()


def _shares() -> Iterator[Case]:
    for n in (20, 100, 300, 1000):
        for p in (0.02, 0.1, 0.5, 0.9, 0.98):
            yield Case(
                "wilson_interval", f"{n} items, share {p}",
                lambda rng, n=n, p=p: [(wilson_interval(rng.binomial(n, p), n), p)],
            )  # fmt: skip


def _means() -> Iterator[Case]:
    for n in (20, 100, 1000):
        for p in (0.02, 0.1, 0.5):
            yield Case("mean_interval", f"{n} items, 0 or 1, share {p}",
                       lambda rng, n=n, p=p: [(mean_interval(rng.random(n) < p), p)])  # fmt: skip
    for n in (20, 100, 1000):
        yield Case("mean_interval", f"{n} items, log-normal (skewed)",
                   lambda rng, n=n: [(mean_interval(rng.lognormal(size=n)), np.exp(0.5))])  # fmt: skip
    for n_clusters in (4, 8, 20, 57):
        yield Case("mean_interval", f"{n_clusters} clusters of 5, half the variance between them",
                   lambda rng, g=n_clusters: [_clustered(rng, g, even=True)])  # fmt: skip
        yield Case("mean_interval", f"{n_clusters} clusters of 1 to 30, half the variance between them",
                   lambda rng, g=n_clusters: [_clustered(rng, g, even=False)])  # fmt: skip
    yield Case("mean_interval", "20 clusters of 5, half the variance between them, clusters not given",
               lambda rng: [_clustered(rng, 20, even=True, told=False)])  # fmt: skip


def _clustered(rng: np.random.Generator, n_clusters: int, *, even: bool, told: bool = True) -> tuple[Interval, float]:
    sizes = np.full(n_clusters, 5) if even else rng.integers(1, 31, size=n_clusters)
    labels = np.repeat(np.arange(n_clusters), sizes)
    x = rng.normal(size=n_clusters)[labels] + rng.normal(size=len(labels))
    return mean_interval(x, clusters=labels if told else None), 0.0


def _bootstrapped_means() -> Iterator[Case]:
    for n in (20, 100, 300):
        worlds: tuple[tuple[str, Callable[[np.random.Generator, int], Array], float], ...] = (
            ("normal", lambda rng, n: rng.normal(size=n), 0.0),
            ("log-normal (skewed)", lambda rng, n: rng.lognormal(size=n), float(np.exp(0.5))),
            ("0 or 1, share 0.1", lambda rng, n: (rng.random(n) < 0.1).astype(float), 0.1),
            ("0 or 1, share 0.5", lambda rng, n: (rng.random(n) < 0.5).astype(float), 0.5),
            ("paired differences of shares 0.60 and 0.55", _paired_differences, 0.05),
        )
        for name, world, truth in worlds:
            yield Case(
                "bootstrap_interval", f"{n} items, {name}",
                lambda rng, n=n, world=world, truth=truth: [(_bootstrap(rng, world(rng, n)), truth)], 1000,
            )  # fmt: skip
    for n_clusters in (8, 20, 57):
        yield Case("bootstrap_interval", f"{n_clusters} clusters of 5, half the variance between them",
                   lambda rng, g=n_clusters: [_bootstrap_clusters(rng, g)], 1000)  # fmt: skip


def _paired_differences(rng: np.random.Generator, n: int) -> Array:
    return rng.choice([1.0, -1.0, 0.0], size=n, p=[0.15, 0.10, 0.75])


def _bootstrap(rng: np.random.Generator, x: Array) -> Interval:
    return bootstrap_interval(x, n_resamples=Resampled, seed=int(rng.integers(2**31)))


def _bootstrap_clusters(rng: np.random.Generator, n_clusters: int) -> tuple[Interval, float]:
    labels = np.repeat(np.arange(n_clusters), 5)
    x = rng.normal(size=n_clusters)[labels] + rng.normal(size=len(labels))
    seed = int(rng.integers(2**31))
    return bootstrap_interval(x, clusters=labels, n_resamples=Resampled, seed=seed), 0.0


def _pairs() -> Iterator[Case]:
    for n in (20, 100, 300, 1000):
        for gap, discordant in ((0.0, 0.02), (0.02, 0.02), (0.0, 0.2), (0.1, 0.2), (0.2, 0.5)):
            yield Case(
                "paired_interval", f"{n} items, {discordant:.0%} discordant, difference {gap}",
                lambda rng, n=n, gap=gap, d=discordant: [(_paired(rng, n, gap, d), gap)],
            )  # fmt: skip


def _paired(rng: np.random.Generator, n: int, gap: float, discordant: float) -> Interval:
    won, lost, _ = rng.multinomial(n, [(discordant + gap) / 2, (discordant - gap) / 2, 1 - discordant])
    return paired_interval(int(won), int(lost), n)


def _seeds() -> Iterator[Case]:
    for n in (2, 3, 5, 10):
        yield Case("seed_interval", f"{n} seeds, normal", lambda rng, n=n: [(seed_interval(rng.normal(size=n)), 0.0)])
    for n in (3, 5, 10):
        yield Case("seed_interval", f"{n} seeds, one in ten fails by four deviations",
                   lambda rng, n=n: [(seed_interval(rng.normal(size=n) - 4.0 * (rng.random(n) < 0.1)), -0.4)])  # fmt: skip


_REGIMES = (("do not matter", 0.0), ("matter as much as items", 0.05), ("dominate", 0.25))
"""Deviation between seeds where 100 items of deviation 0.5 give a mean a standard error of 0.05."""


def _table(rng: np.random.Generator, n_seeds: int, seed_sd: float, n_items: int = 100) -> Array:
    """Return scores `[seed, item]` around 0: half the variance of a score is the item's, half the single answer's."""
    parts = seed_sd * rng.normal(size=(n_seeds, 1)), rng.normal(size=(1, n_items)), rng.normal(size=(n_seeds, n_items))
    return np.asarray(parts[0] + np.sqrt(0.125) * (parts[1] + parts[2]))


def _seeds_and_items() -> Iterator[Case]:
    for n_seeds in (2, 3, 5, 10):
        for name, sd in _REGIMES:
            yield Case("crossed_interval", f"{n_seeds} seeds that {name}, 100 items",
                       lambda rng, n=n_seeds, sd=sd: [(crossed_interval(_table(rng, n, sd)), 0.0)], 2000)  # fmt: skip
    for n_seeds in (2, 3, 5):
        for name, sd in _REGIMES:
            yield Case(
                "crossed_intervals", f"8 methods, {n_seeds} seeds that {name}, 100 items",
                lambda rng, n=n_seeds, sd=sd: [
                    (each, 0.0) for each in crossed_intervals([_table(rng, n, sd) for _ in range(8)])
                ], 500,
            )  # fmt: skip


def _hierarchies() -> Iterator[Case]:
    for n_seeds in (3, 5, 10, 20):
        for name, sd in _REGIMES:
            yield Case(
                "hierarchical_interval", f"{n_seeds} seeds that {name}, 100 items",
                lambda rng, n=n_seeds, sd=sd: [
                    (hierarchical_interval(_table(rng, n, sd), n_resamples=Resampled, seed=int(rng.integers(2**31))),
                     0.0)
                ], 1000,
            )  # fmt: skip


def _win_rates() -> Iterator[Case]:
    for n in (20, 100, 1000):
        for win, tie in ((0.5, 0.0), (0.3, 0.4), (0.9, 0.05), (0.97, 0.02)):
            yield Case("win_rate", f"{n} items, {win:.0%} won, {tie:.0%} tied",
                       lambda rng, n=n, w=win, t=tie: [(_won(rng, (1, n), w, t), w + t / 2)])  # fmt: skip
    for n_seeds in (2, 3, 5):
        yield Case("win_rate", f"{n_seeds} seeds of 100 items, half won, seeds do not matter",
                   lambda rng, n=n_seeds: [(_won(rng, (n, 100), 0.5, 0.0), 0.5)])  # fmt: skip
    for n in (50, 200, 800):
        yield Case("length_adjusted_rate", f"{n} items, 60 % won at equal lengths, longer answers liked",
                   lambda rng, n=n: [_length_adjusted(rng, n)], 2000)  # fmt: skip


def _won(rng: np.random.Generator, shape: tuple[int, int], win: float, tie: float) -> Interval:
    scores = rng.choice([1.0, 0.0, -1.0], size=shape, p=[win, tie, 1 - win - tie])
    return win_rate(scores, np.zeros(shape)).rate


def _length_adjusted(rng: np.random.Generator, n: int) -> tuple[Interval, float]:
    gaps = rng.normal(100, 300, size=n)
    liked = rng.random(n) < special.expit(np.log(1.5) + np.tanh(gaps / gaps.std()))
    return length_adjusted_rate(liked, 1000 + gaps, np.full(n, 1000.0)).rate, 0.6


def _battles() -> Iterator[Case]:
    worlds = (("of about equal strength", (0.0, 0.2, -0.2, 0.4)), ("far apart", (0.0, 1.5, -1.5, 3.0)))
    for n in (60, 200, 1000):
        for name, true in worlds:
            yield Case("strengths", f"{n} battles of 4 players {name}",
                       lambda rng, n=n, true=np.array(true): _fought(rng, n, true), 500)  # fmt: skip
    yield Case("strengths", "60 items, each judged in both orders with one outcome, 2 players, items given",
               lambda rng: _judged_twice(rng, told=True), 500)  # fmt: skip
    yield Case("strengths", "60 items, each judged in both orders with one outcome, 2 players, items not given",
               lambda rng: _judged_twice(rng, told=False), 500)  # fmt: skip


def _fought(rng: np.random.Generator, n: int, true: Array) -> Tried:
    a = rng.integers(4, size=n)
    b = (a + rng.integers(1, 4, size=n)) % 4
    first = rng.random(n) < special.expit(true[a] - true[b])
    won, lost = np.where(first, a, b), np.where(first, b, a)
    found = strengths(won, lost, np.ones(n), n_players=4, n_resamples=500, seed=int(rng.integers(2**31)))
    return list(zip(found[1:], true[1:].tolist(), strict=True))


def _judged_twice(rng: np.random.Generator, *, told: bool) -> Tried:
    first = np.repeat(rng.random(60) < special.expit(0.5), 2).astype(np.intp)
    labels = np.repeat(np.arange(60), 2) if told else None
    found = strengths(first, 1 - first, np.ones(120), n_players=2, clusters=labels, n_resamples=500,
                      seed=int(rng.integers(2**31)))  # fmt: skip
    return [(found[1], 0.5)]


def _aggregates() -> Iterator[Case]:
    tasks = np.linspace(-1.0, 1.0, 12)
    # The interquartile mean of equal mixtures around symmetric centres is 0.
    for n_runs in (2, 3, 5, 10):
        for n_tasks in (3, 6, 12):
            centres = np.linspace(-1.0, 1.0, n_tasks)
            yield Case(
                "interquartile_interval", f"{n_runs} runs of {n_tasks} tasks",
                lambda rng, r=n_runs, c=centres: [
                    (interquartile_interval(c + rng.normal(size=(r, len(c))), n_resamples=Resampled,
                                            seed=int(rng.integers(2**31))), 0.0)
                ], 1000,
            )  # fmt: skip
    for n_runs in (3, 5, 10):
        for threshold in (0.0, 2.0):
            truth = float(special.ndtr(tasks - threshold).mean())
            yield Case(
                "performance_profile", f"{n_runs} runs of 12 tasks, {truth:.0%} above the threshold",
                lambda rng, r=n_runs, at=threshold, truth=truth: [
                    (performance_profile(tasks + rng.normal(size=(r, 12)), [at], n_resamples=Resampled,
                                         seed=int(rng.integers(2**31))).shares[0], truth)
                ], 1000,
            )  # fmt: skip
    for n_runs in (3, 5, 10):
        for shift in (0.0, 1.0, 3.0):
            truth = float(special.ndtr(shift / np.sqrt(2)))
            yield Case(
                "probability_of_improvement", f"{n_runs} runs of 6 tasks, probability {truth:.2f}",
                lambda rng, r=n_runs, shift=shift, truth=truth: [
                    (probability_of_improvement(shift + rng.normal(size=(r, 6)), rng.normal(size=(r, 6)),
                                                n_resamples=Resampled, seed=int(rng.integers(2**31))), truth)
                ], 1000,
            )  # fmt: skip


def _calibrations() -> Iterator[Case]:
    for n in (100, 1000):
        yield Case("calibration", f"bins of {n} calibrated forecasts, evenly spread", lambda rng, n=n: _bins(rng, n))


def _bins(rng: np.random.Generator, n: int) -> Tried:
    p = rng.random(n)
    bins = calibration(p, rng.random(n) < p).bins
    return [(each.observed, each.forecast) for each in bins]


def _ranks() -> Iterator[Case]:
    for n_seeds in (2, 5):
        for gap in (0.02, 0.1):
            yield Case("rank", f"5 methods a step of {gap} apart, {n_seeds} seeds, 100 items",
                       lambda rng, n=n_seeds, gap=gap: _ranked(rng, n, gap), 500)  # fmt: skip


def _ranked(rng: np.random.Generator, n_seeds: int, gap: float) -> Tried:
    """Return the range of ranks of every method as an interval around the true rank."""
    items = np.sqrt(0.125) * rng.normal(size=(1, 100))
    tables = {str(k + 1): items - gap * k + _table(rng, n_seeds, 0.02) for k in range(5)}
    ranks = rank(tables, n_resamples=Resampled, seed=int(rng.integers(2**31)))
    return [
        (Interval(float(r.name), r.rank_low, r.rank_high, np.nan, n_seeds, np.inf, "bootstrap"), float(r.name))
        for r in ranks
    ]
