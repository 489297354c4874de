"""What training looked like, as numbers for the charts of the page: one line per method, over the seeds."""

from typing import Any

import numpy as np
import pandas as pd

from preflab.report.analysis import Analysis
from preflab.report.samples import visible
from preflab.report.svg import COLOURS
from preflab.report.tables import final_cells

MAX_POINTS = 80

_METRICS = (
    ("margin", "dynamics", "Implicit margin on validation pairs", "nats; 0 at the start"),
    ("accuracy", "dynamics", "Validation pairs told apart", "share; 0.5 at the start"),
    ("chosen_total", "dynamics", "Log-prob of chosen responses", "nats per response"),
    ("rejected_total", "dynamics", "Log-prob of rejected responses", "nats per response"),
    ("unseen_total", "dynamics", "Log-prob of answers to other prompts", "nats per response"),
    ("loss", "log", "Training loss", "on each method's own scale: compare shapes, not heights"),
    ("grad_norm", "log", "Gradient norm", "before clipping"),
    ("learning_rate", "log", "Learning rate", ""),
)  # fmt: skip
"""Column, table, title and unit of everything that can be followed."""


def curves(analysis: Analysis) -> dict[str, Any]:
    """Return the curves of the selected runs of the largest size; empty where nothing was followed.

    Returns:
        `methods` (title, colour), `metrics` (title, unit, x) and `panels`, one per start point and metric: `start`,
        `metric` (its place in `metrics`), `x`, and per method `mean`, `low` and `high` over the seeds, null where it
        has no point, and null for a method that was not followed. A point stands where all seeds of a method have
        one; logs are means over stretches of steps, `MAX_POINTS` at most.
    """
    cells = final_cells(analysis.tables)
    cells = cells[(cells["method"] != "") & (cells["size"] == analysis.size)]
    metrics: list[dict[str, str]] = []
    panels: list[dict[str, Any]] = []
    for column, table, title, unit in _METRICS:
        frame = getattr(analysis.tables, table)
        frame = frame[frame[column].notna()].merge(cells[["cell", "start", "method"]], on="cell")
        if frame.empty:
            continue
        by_pairs = table == "dynamics" and bool(frame["pairs_seen"].notna().all())
        frame = _thinned(frame.rename(columns={"pairs_seen" if by_pairs else "step": "x"}), column)
        by_start = dict(list(frame.groupby("start")))
        for start in (start for start in analysis.best_first if start in by_start):
            part = by_start[start]
            methods = {str(method): _line(each, column) for method, each in part.groupby("method")}
            panels.append({"start": visible(start), "metric": len(metrics)} | _aligned(methods, analysis.methods))
        metrics.append({"title": title, "unit": unit, "x": "training pairs seen" if by_pairs else "optimizer step"})
    if not panels:
        return {}
    lines = [
        {"title": visible(analysis.title(method)), "colour": COLOURS[k % len(COLOURS)]}
        for k, method in enumerate(analysis.methods)
    ]
    return {"methods": lines, "metrics": metrics, "panels": panels}


def _thinned(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return every cell's points, as means over equal stretches where there are more than fit."""
    frame = frame[["cell", "start", "method", "x", column]].sort_values(["cell", "x"], kind="stable")
    place = frame.groupby("cell").cumcount()
    each = np.ceil(frame.groupby("cell")["x"].transform("size") / MAX_POINTS)
    stretches = frame.assign(stretch=place // each).groupby(["cell", "start", "method", "stretch"], as_index=False)
    return stretches.agg({"x": "max", column: "mean"})


def _line(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return mean, low and high by x, where all seeds have a value."""
    found = frame.groupby("x")[column].agg(["mean", "min", "max", "count"])
    return found[found["count"] == frame["cell"].nunique()]


def _aligned(lines: dict[str, pd.DataFrame], order: tuple[str, ...]) -> dict[str, Any]:
    x = sorted(set().union(*(line.index for line in lines.values())))
    series = [
        {
            name: _numbers(lines[method].reindex(x)[key])
            for name, key in (("mean", "mean"), ("low", "min"), ("high", "max"))
        }
        if method in lines
        else None
        for method in order
    ]
    return {"x": [float(value) for value in x], "series": series}


def _numbers(values: pd.Series) -> list[float | None]:
    return [float(f"{value:.4g}") if np.isfinite(value) else None for value in values.astype(float)]
