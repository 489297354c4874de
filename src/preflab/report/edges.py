"""Selected settings that lie at the end of what was tried: a wider grid may hold a better one."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from preflab.report.analysis import Analysis


@dataclass(frozen=True, slots=True)
class Edge:
    """A selected value that is the last one tried.

    Args:
        method: the method.
        name: the hyper-parameter, or `learning_rate`; empty where the study says that the setting lies on an edge and
            its hyper-parameters do not say of what.
        value: what was selected.
        tried: every value that was tried, ascending.
    """

    method: str
    name: str
    value: float
    tried: tuple[float, ...]

    @property
    def side(self) -> str:
        """Which end it is: `lowest` or `highest`."""
        return "lowest" if self.value == self.tried[0] else "highest"


def edges(analysis: Analysis, start: str, size: int) -> list[Edge]:
    """Return the selected values at the end of a searched axis, each once, in the order of the methods."""
    cells = analysis.tables.cells
    mine = cells[cells["edge"] & cells["selected"] & (cells["start"] == start) & (cells["size"] == size)]
    found: dict[Edge, None] = {}
    for method in (m for m in analysis.methods if m in set(mine["method"])):
        tried = [values_of(each) for each in cells[cells["method"] == method].to_dict("records")]
        own = [
            Edge(method, name, value, levels)
            for cell in mine[mine["method"] == method].to_dict("records")
            for name, value in values_of(cell).items()
            if len(levels := tuple(sorted({values[name] for values in tried if name in values}))) > 1
            and value in (levels[0], levels[-1])
        ]
        found |= dict.fromkeys(own or [Edge(method, "", math.nan, ())])
    return list(found)


def values_of(cell: Mapping[str, object]) -> dict[str, float]:
    """Return the finite hyper-parameters and the learning rate of a cell."""
    given = cell.get("hyperparameters")
    values = dict(given) if isinstance(given, Mapping) else {}
    return {
        str(name): float(value)
        for name, value in {**values, "learning_rate": cell.get("learning_rate")}.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
