"""How much a method's score depends on its setting: what somebody gets who cannot search."""

import numpy as np

from preflab.report.analysis import Analysis
from preflab.report.sections import Cell, Table
from preflab.report.wording import number


def grid_table(analysis: Analysis) -> Table | None:
    """Return the validation scores of all settings of each method at the largest size; None where nothing was searched.

    References:
        Ahrabian et al., A Practical Analysis of Human Alignment with *PO, 2024, arXiv:2407.15229, whose histogram of
        mean scores over configurations these numbers stand for.
    """
    cells = analysis.tables.cells
    cells = cells[(cells["method"] != "") & (cells["size"] == analysis.size)]
    rows = []
    for (start, method), found in cells.groupby(["start", "method"], sort=False):
        ended = found["validation"].where(found["status"] == "done").isna().groupby(found["setting"]).any()
        scores = found.groupby("setting")["validation"].mean()[~ended].to_numpy(dtype=float)
        if len(scores) < 2:
            continue
        worst, low, median, high = np.quantile(scores, (0.1, 0.25, 0.5, 0.75))
        rows.append([
            Cell(f"{analysis.title(str(method))} from {start}", kind="text"),
            Cell(str(len(scores)), f"{ended.sum()} more did not" if ended.any() else ""),
            Cell(number(scores.max())), Cell(number(median)), Cell(f"{number(low)} to {number(high)}"),
            Cell(number(worst)), Cell(number(scores.max() - median)),
        ])  # fmt: skip
    head = [
        ("Method and start point", ""), ("Settings", "that reached their end with every seed"), ("Best", ""),
        ("Median", ""), ("Middle half", "of the settings"),
        ("Worst tenth", "at most"), ("Best over median", "what the search gave"),
    ]  # fmt: skip
    caption = "Validation score over the settings of each method, means over seeds; as far as the grids are comparable."
    return Table(caption, head, rows) if rows else None
