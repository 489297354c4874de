"""Selected settings that lie at the end of what was tried: a wider grid may hold a better one."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from preflab.stats.intervals import seed_interval

_ENOUGH_SEEDS = 5


@dataclass(frozen=True, slots=True)
class Edge:
    """A selected value that is the last one tried.

    Args:
        method: the method.
        name: the hyper-parameter, or `learning_rate`; empty where the study says that the setting lies on an edge and
            its hyper-parameters do not say of what.
        value: what was selected.
        tried: every value that was tried, ascending.
        flat: whether the next value is as good: validation does not tell the two apart over five seeds or more, at 5 %.
            Fewer tell hardly anything apart.
    """

    method: str
    name: str
    value: float
    tried: tuple[float, ...]
    flat: bool = False

    @property
    def side(self) -> str:
        """Which end it is: `lowest` or `highest`."""
        return "lowest" if self.value == self.tried[0] else "highest"


def edges(cells: pd.DataFrame, start: str, size: int) -> list[Edge]:
    """Return the selected values at the end of a searched axis, each once, in the order of the methods.

    Args:
        cells: completed table of cells.
        start: start point.
        size: number of training pairs.
    """
    here = cells[(cells["start"] == start) & (cells["size"] == size) & (cells["method"] != "")]
    found: dict[Edge, None] = {}
    for method, mine in here[here["edge"] & here["selected"]].groupby("method", sort=False):
        tried = [values_of(each) for each in cells[cells["method"] == method].to_dict("records")]
        runs = here[here["method"] == method].to_dict("records")
        own = [
            Edge(str(method), name, value, levels, _flat(runs, cell, name, levels[1 if value == levels[0] else -2]))
            for cell in mine.to_dict("records")
            for name, value in values_of(cell).items()
            if len(levels := tuple(sorted({values[name] for values in tried if name in values}))) > 1
            and value in (levels[0], levels[-1])
        ]
        found |= dict.fromkeys(own or [Edge(str(method), "", math.nan, ())])
    return list(found)


def steep(cells: pd.DataFrame) -> pd.Series:
    """Return for every cell whether its group has a selected value at the end of an axis that beats the next one."""
    groups = cells[["start", "size", "method"]]
    found = {
        (start, size, edge.method)
        for start, size in groups[["start", "size"]].drop_duplicates().itertuples(index=False, name=None)
        for edge in edges(cells, start, size)
        if not edge.flat
    }
    return pd.Series([key in found for key in groups.itertuples(index=False, name=None)], index=cells.index, dtype=bool)


def _flat(runs: list[dict[Any, Any]], chosen: Mapping[Any, Any], name: str, near: float) -> bool:
    """Return whether a chosen setting and the one that differs in one value only are not told apart over seeds."""
    wanted = values_of(chosen)
    by_seed = [
        {run["seed"]: run["validation"] for run in runs if values_of(run) == values and not pd.isna(run["validation"])}
        for values in (wanted, wanted | {name: near})
    ]
    gaps = [by_seed[0][seed] - by_seed[1][seed] for seed in by_seed[0] if seed in by_seed[1]]
    return len(gaps) >= _ENOUGH_SEEDS and not seed_interval(gaps).low > 0


def values_of(cell: Mapping[str, object]) -> dict[str, float]:
    """Return the finite hyper-parameters and the learning rate of a cell."""
    given = cell.get("hyperparameters")
    values = dict(given) if isinstance(given, Mapping) else {}
    return {
        str(name): float(value)
        for name, value in {**values, "learning_rate": cell.get("learning_rate")}.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
