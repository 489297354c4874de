"""The scores of all settings of every method, for what a report says about robustness."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from preflab.report.tables import ACCURACY, FloatArray, Metric, StudyTables, clusters_of, item_table
from preflab.stats.robustness import Grid

VALIDATION = "validation"
"""Where the scores come from when unselected settings were not evaluated on the test splits."""

ENDED = ("done", "diverged", "stopped")
"""States of trainings that have ended, well or not."""


@dataclass(frozen=True, slots=True)
class MethodGrid:
    """One method over its settings.

    Args:
        method: its name in the study.
        labels: label of every setting in `grid`.
        settings: hyper-parameters and learning rate of every setting in `grid`.
        seeds: seeds of every setting in `grid`.
        grid: the scores. A setting that diverged with any seed scores what the start point scores, because a user who
            tries it is left with that; where the start point's score is not known, such settings are not in the grid.
        diverged: settings that diverged with any seed.
        diverged_runs: runs that diverged.
        runs: runs that ended, diverged ones among them.
        stopped: settings that successive halving stopped, which are not in the grid.
    """

    method: str
    labels: tuple[str, ...]
    settings: tuple[Mapping[str, Hashable], ...]
    seeds: tuple[int, ...]
    grid: Grid
    diverged: tuple[str, ...]
    diverged_runs: int
    runs: int
    stopped: int


@dataclass(frozen=True, slots=True)
class SettingScores:
    """The grids of one start point on one split, on the same items and seeds.

    Args:
        start: start point.
        split: `test`, `ood` or `VALIDATION`.
        methods: methods with two settings or more.
        clusters: prompt of each item; empty for `VALIDATION`, whose scores are means over its items.
        start_values: score of the start point `[item]`, or None where it is not known.
    """

    start: str
    split: str
    methods: Mapping[str, MethodGrid]
    clusters: tuple[Hashable, ...]
    start_values: FloatArray | None

    @property
    def grids(self) -> dict[str, Grid]:
        """The grids by method."""
        return {name: found.grid for name, found in self.methods.items()}


def setting_scores(tables: StudyTables, metric: Metric, start: str, size: int, split: str) -> SettingScores | None:
    """Return the scores over all settings, or None where no method has two that can be compared.

    Args:
        tables: completed tables.
        metric: the headline quantity; of `VALIDATION` it is what the study selected by.
        start: start point.
        size: number of training pairs.
        split: `test` or `ood`, where every setting was evaluated; or `VALIDATION`.
    """
    cells = tables.cells[(tables.cells["start"] == start) & (tables.cells["size"] == size)]
    cells = cells[(cells["method"] != "") & cells["status"].isin(ENDED)]
    starts = tables.cells[(tables.cells["start"] == start) & (tables.cells["method"] == "")]
    if split == VALIDATION:
        wide = cells.loc[cells["status"] == "done"].set_index("cell")["validation"].dropna().to_frame().T
        clusters: tuple[Hashable, ...] = ()
    else:
        evaluated = pd.concat([cells.loc[cells["status"] == "done", "cell"], starts["cell"]])
        wide, facts, _ = item_table(tables, split, metric.name, evaluated)
        clusters = clusters_of(facts)
    if wide.empty:
        return None
    start_values = _start_values(wide, starts["cell"], metric)
    found = {
        str(method): grid
        for method, mine in cells.groupby("method", sort=False)
        if (grid := _method_grid(str(method), mine, wide, start_values, whole=split != VALIDATION)) is not None
    }
    return SettingScores(start, split, found, clusters, start_values) if found else None


def _start_values(wide: pd.DataFrame, starts: pd.Series, metric: Metric) -> FloatArray | None:
    own = [cell for cell in starts if cell in wide]
    if not own:
        return None
    # Against itself a start point is right half of the time, free of rounding.
    return np.full(len(wide), 0.5) if metric.name == ACCURACY.name else wide[own].mean(axis=1).to_numpy()


def _method_grid(
    method: str, cells: pd.DataFrame, wide: pd.DataFrame, start_values: FloatArray | None, *, whole: bool
) -> MethodGrid | None:
    seeds = sorted(cells.loc[cells["cell"].isin(wide.columns), "seed"].unique())
    labels, settings, values, chosen_by, diverged, stopped = [], [], [], [], [], 0
    for label, runs in cells.groupby("setting", sort=False):
        by_seed = {seed: cell for seed, cell in zip(runs["seed"], runs["cell"], strict=True) if cell in wide}
        if (runs["status"] == "stopped").any():
            stopped += 1
            continue
        if (runs["status"] == "diverged").any():
            diverged.append(str(label))
            if start_values is None:
                continue
            values.append(np.broadcast_to(start_values, (len(seeds), len(start_values))))
            chosen_by.append(-np.inf)
        elif all(seed in by_seed for seed in seeds):
            values.append(wide[[by_seed[seed] for seed in seeds]].to_numpy().T)
            chosen_by.append(float(np.nan_to_num(runs["validation"].mean(), nan=-np.inf)))
        elif whole:
            return None  # not every setting was evaluated: the others would stand for those that validation prefers
        else:
            continue
        labels.append(str(label))
        settings.append(_hyperparameters(runs.iloc[0]))
    if len(values) < 2 or not seeds:
        return None
    return MethodGrid(
        method=method,
        labels=tuple(labels),
        settings=tuple(settings),
        seeds=tuple(int(seed) for seed in seeds),
        grid=Grid(np.stack(values), np.array(chosen_by)),
        diverged=tuple(diverged),
        diverged_runs=int((cells["status"] == "diverged").sum()),
        runs=int(cells["status"].isin(["done", "diverged"]).sum()),
        stopped=stopped,
    )


def _hyperparameters(cell: pd.Series) -> dict[str, Hashable]:
    values = cell["hyperparameters"] if isinstance(cell["hyperparameters"], Mapping) else {}
    return {**values, "learning_rate": float(cell["learning_rate"])}
