"""The worlds in which intervals are tried: each draws data whose truth is known and returns intervals beside it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

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

FloatArray = NDArray[np.float64]
Rng = np.random.Generator
Tried = Sequence[tuple[Interval, float]]

_N_RESAMPLES = 1000
REGIMES = (("do not matter", 0.0), ("matter as much as items", 0.05), ("dominate", 0.25))
"""Deviation between seeds where the mean of 100 items has a standard error of 0.05 by itself."""


@dataclass(frozen=True, slots=True)
class Case:
    """One interval in one world.

    Args:
        interval: the function's name, and the heading of its table.
        world: what data it sees, in words.
        draw: intervals of newly drawn data with the truth of each.
        n_draws: repetitions.
    """

    interval: str
    world: str
    draw: Callable[[Rng], Tried]
    n_draws: int = 4000


def cases() -> Iterator[Case]:
    """Yield every case, those of one interval together."""
    for group in (_items, _pairs, _seeds, _seeds_and_items, _win_rates, _battles, _runs_and_tasks, _others):
        yield from group()


def _items() -> Iterator[Case]:
    for n in (20, 100, 300, 1000):
        for p in (0.02, 0.1, 0.5, 0.9, 0.98):
            yield Case("wilson_interval", f"{n} items, share {p}", partial(_share, n=n, p=p))
    grouped = "half the variance between them"
    for n in (20, 100, 1000):
        for name in ("0 or 1, share 0.02", "0 or 1, share 0.1", "0 or 1, share 0.5", "log-normal (skewed)"):
            yield Case("mean_interval", f"{n} items, {name}", partial(_mean, name=name, n=n))
    for n in (4, 8, 20, 57):
        yield Case("mean_interval", f"{n} clusters of 5, {grouped}", partial(_clustered, n=n))
        yield Case("mean_interval", f"{n} clusters of 1 to 30, {grouped}", partial(_clustered, n=n, most=30))
    yield Case("mean_interval", f"20 clusters of 5, {grouped}, not given", partial(_clustered, n=20, told=False))
    for n in (20, 100, 300):
        for name in _VALUES:
            yield Case("bootstrap_interval", f"{n} items, {name}", partial(_mean, name=name, n=n, bootstrap=True), 1000)
    for n in (8, 20, 57):
        draw = partial(_clustered, n=n, bootstrap=True)
        yield Case("bootstrap_interval", f"{n} clusters of 5, {grouped}", draw, 1000)


_VALUES: dict[str, tuple[Callable[[Rng, int], FloatArray], float]] = {
    "normal": (lambda rng, n: rng.normal(size=n), 0.0),
    "log-normal (skewed)": (lambda rng, n: rng.lognormal(size=n), float(np.exp(0.5))),
    "0 or 1, share 0.02": (lambda rng, n: rng.binomial(1, 0.02, size=n).astype(float), 0.02),
    "0 or 1, share 0.1": (lambda rng, n: rng.binomial(1, 0.1, size=n).astype(float), 0.1),
    "0 or 1, share 0.5": (lambda rng, n: rng.binomial(1, 0.5, size=n).astype(float), 0.5),
    "differences of 0 and 1, 25 % discordant": (
        lambda rng, n: rng.choice([1.0, -1.0, 0.0], size=n, p=[0.15, 0.10, 0.75]),
        0.05,
    ),
}
"""How values are drawn, and their mean."""


def _share(rng: Rng, *, n: int, p: float) -> Tried:
    return [(wilson_interval(rng.binomial(n, p), n), p)]


def _mean(rng: Rng, *, name: str, n: int, bootstrap: bool = False) -> Tried:
    draw, truth = _VALUES[name]
    x = draw(rng, n)
    return [
        (bootstrap_interval(x, n_resamples=_N_RESAMPLES, seed=_seed(rng)) if bootstrap else mean_interval(x), truth)
    ]


def _clustered(rng: Rng, *, n: int, most: int = 5, told: bool = True, bootstrap: bool = False) -> Tried:
    sizes = np.full(n, 5) if most == 5 else rng.integers(1, most + 1, size=n)
    labels = np.repeat(np.arange(n), sizes)
    x = rng.normal(size=n)[labels] + rng.normal(size=len(labels))
    if bootstrap:
        return [(bootstrap_interval(x, clusters=labels, n_resamples=_N_RESAMPLES, seed=_seed(rng)), 0.0)]
    return [(mean_interval(x, clusters=labels if told else None), 0.0)]


def _pairs() -> Iterator[Case]:
    for n in (20, 100, 300, 1000):
        for gap, share in ((0.0, 0.02), (0.02, 0.02), (0.0, 0.2), (0.1, 0.2), (0.2, 0.5)):
            world = f"{n} items, {share:.0%} discordant, difference {gap}"
            yield Case("paired_interval", world, partial(_paired, n=n, gap=gap, discordant=share))


def _paired(rng: Rng, *, n: int, gap: float, discordant: float) -> Tried:
    won, lost, _ = rng.multinomial(n, [(discordant + gap) / 2, (discordant - gap) / 2, 1 - discordant])
    return [(paired_interval(int(won), int(lost), n), gap)]


def _seeds() -> Iterator[Case]:
    for n in (2, 3, 5, 10):
        yield Case("seed_interval", f"{n} seeds, normal", partial(_failing, n=n, share=0.0))
    for n in (3, 5, 10):
        world = f"{n} seeds, one in ten fails by four deviations"
        yield Case("seed_interval", world, partial(_failing, n=n, share=0.1))


def _failing(rng: Rng, *, n: int, share: float) -> Tried:
    return [(seed_interval(rng.normal(size=n) - 4.0 * (rng.random(n) < share)), -4 * share)]


def _seeds_and_items() -> Iterator[Case]:
    for n in (2, 3, 5, 10):
        for name, sd in REGIMES:
            yield Case("crossed_interval", f"{n} seeds that {name}", partial(_crossed, n=n, sd=sd), 2000)
    for n in (2, 3, 5):
        for name, sd in REGIMES:
            yield Case("crossed_intervals", f"{n} seeds that {name}", partial(_crossed, n=n, sd=sd, n_methods=8), 500)
    for n in (3, 5, 10, 20):
        for name, sd in REGIMES:
            yield Case("hierarchical_interval", f"{n} seeds that {name}", partial(_hierarchical, n=n, sd=sd), 1000)


def seeds_and_items(rng: Rng, n: int, sd: float) -> FloatArray:
    """Return scores `[seed, item]` of 100 items around 0, half of whose variance is the item's, half the answer's."""
    answers = rng.normal(size=(1, 100)) + rng.normal(size=(n, 100))
    return np.asarray(sd * rng.normal(size=(n, 1)) + np.sqrt(0.125) * answers)


def _crossed(rng: Rng, *, n: int, sd: float, n_methods: int = 1) -> Tried:
    if n_methods == 1:
        return [(crossed_interval(seeds_and_items(rng, n, sd)), 0.0)]
    return [(each, 0.0) for each in crossed_intervals([seeds_and_items(rng, n, sd) for _ in range(n_methods)])]


def _hierarchical(rng: Rng, *, n: int, sd: float) -> Tried:
    return [(hierarchical_interval(seeds_and_items(rng, n, sd), n_resamples=_N_RESAMPLES, seed=_seed(rng)), 0.0)]


def _win_rates() -> Iterator[Case]:
    for n in (20, 100, 1000):
        for win, tie in ((0.5, 0.0), (0.3, 0.4), (0.9, 0.05), (0.97, 0.02)):
            world = f"{n} items, {win:.0%} won, {tie:.0%} tied"
            yield Case("win_rate", world, partial(_won, shape=(1, n), win=win, tie=tie))
    for n in (2, 3, 5):
        world = f"{n} seeds of 100 items, half won, seeds do not matter"
        yield Case("win_rate", world, partial(_won, shape=(n, 100), win=0.5, tie=0.0))
    for n in (50, 200, 800):
        world = f"{n} items, 60 % won at equal lengths, longer answers liked"
        yield Case("length_adjusted_rate", world, partial(_length_adjusted, n=n), 2000)


def _won(rng: Rng, *, shape: tuple[int, int], win: float, tie: float) -> Tried:
    scores = rng.choice([1.0, 0.0, -1.0], size=shape, p=[win, tie, 1 - win - tie])
    return [(win_rate(scores, np.zeros(shape)).rate, win + tie / 2)]


def _length_adjusted(rng: Rng, *, n: int) -> Tried:
    gaps = rng.normal(100, 300, size=n)
    liked = rng.random(n) < special.expit(np.log(1.5) + np.tanh(gaps / gaps.std()))
    return [(length_adjusted_rate(liked, 1000 + gaps, np.full(n, 1000.0)).rate, 0.6)]


def _battles() -> Iterator[Case]:
    for n in (60, 200, 1000):
        for name, scale in (("of about equal strength", 0.2), ("far apart", 1.5)):
            yield Case("strengths", f"{n} battles of 4 players {name}", partial(_fought, n=n, scale=scale), 500)
    twice = "60 items, each judged in both orders with one outcome, 2 players, items"
    yield Case("strengths", f"{twice} given", partial(_judged_twice, told=True), 1000)
    yield Case("strengths", f"{twice} not given", partial(_judged_twice, told=False), 1000)


def _fought(rng: Rng, *, n: int, scale: float) -> Tried:
    true = scale * np.array([0.0, 1.0, -1.0, 2.0])
    a = rng.integers(4, size=n)
    b = (a + rng.integers(1, 4, size=n)) % 4
    first = rng.random(n) < special.expit(true[a] - true[b])
    won, lost = np.where(first, a, b), np.where(first, b, a)
    found = strengths(won, lost, np.ones(n), n_players=4, n_resamples=500, seed=_seed(rng))
    return list(zip(found[1:], true[1:].tolist(), strict=True))


def _judged_twice(rng: Rng, *, told: bool) -> Tried:
    won = np.repeat(rng.random(60) < special.expit(0.5), 2).astype(np.intp)
    items = np.repeat(np.arange(60), 2) if told else None
    found = strengths(won, 1 - won, np.ones(120), n_players=2, clusters=items, n_resamples=500, seed=_seed(rng))
    return [(found[1], 0.5)]


def _runs_and_tasks() -> Iterator[Case]:
    for n in (2, 3, 5, 10):
        for n_tasks in (3, 6, 12):
            world = f"{n} runs of {n_tasks} tasks"
            yield Case("interquartile_interval", world, partial(_middle, n=n, n_tasks=n_tasks), 1000)
    for n in (3, 5, 10):
        for name, at in (("half of all", 0.0), ("one in 25", 2.0)):
            world = f"{n} runs of 12 tasks, {name} above the threshold"
            yield Case("performance_profile", world, partial(_profile, n=n, at=at), 1000)
    for n in (3, 5, 10):
        for shift in (0.0, 1.0, 3.0):
            world = f"{n} runs of 6 tasks, probability {_beats(shift):.2f}"
            yield Case("probability_of_improvement", world, partial(_improved, n=n, shift=shift), 1000)


def _middle(rng: Rng, *, n: int, n_tasks: int) -> Tried:
    # Around symmetric centres the interquartile mean of all that could be run is 0.
    table = np.linspace(-1.0, 1.0, n_tasks) + rng.normal(size=(n, n_tasks))
    return [(interquartile_interval(table, n_resamples=_N_RESAMPLES, seed=_seed(rng)), 0.0)]


def _profile(rng: Rng, *, n: int, at: float) -> Tried:
    centres = np.linspace(-1.0, 1.0, 12)
    profile = performance_profile(centres + rng.normal(size=(n, 12)), [at], n_resamples=_N_RESAMPLES, seed=_seed(rng))
    return [(profile.shares[0], float(special.ndtr(centres - at).mean()))]


def _improved(rng: Rng, *, n: int, shift: float) -> Tried:
    first, second = shift + rng.normal(size=(n, 6)), rng.normal(size=(n, 6))
    return [
        (probability_of_improvement(first, second, n_resamples=_N_RESAMPLES, seed=_seed(rng)), _beats(shift)),
    ]


def _beats(shift: float) -> float:
    return float(special.ndtr(shift / np.sqrt(2)))


def _others() -> Iterator[Case]:
    for n in (100, 1000):
        yield Case("calibration", f"bins of {n} calibrated forecasts, evenly spread", partial(_bins, n=n))
    for n in (2, 5):
        for gap in (0.02, 0.1):
            world = f"5 methods a step of {gap} apart, {n} seeds, 100 items"
            yield Case("rank", world, partial(_ranked, n=n, gap=gap), 500)


def _bins(rng: Rng, *, n: int) -> Tried:
    p = rng.random(n)
    return [(each.observed, each.forecast) for each in calibration(p, rng.random(n) < p).bins]


def _ranked(rng: Rng, *, n: int, gap: float) -> Tried:
    """Return the range of ranks of every method as an interval, with its true rank."""
    items = np.sqrt(0.125) * rng.normal(size=(1, 100))
    tables = {str(k): items - gap * k + seeds_and_items(rng, n, 0.02) for k in range(1, 6)}
    ranks = rank(tables, n_resamples=_N_RESAMPLES, seed=_seed(rng))
    return [
        (Interval(r.estimate, r.rank_low, r.rank_high, np.nan, n, np.inf, "bootstrap"), float(r.name)) for r in ranks
    ]


def _seed(rng: Rng) -> int:
    return int(rng.integers(2**31))
