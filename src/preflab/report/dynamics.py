"""Likelihoods during training, from the log-probs of every validation row to means over them."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_ROLES = {"chosen": "chosen", "rejected": "rejected", "unseen": "mismatched"}
"""What a response is called, and its columns in the monitor."""
_FALL = ("peak_step", "chosen_fall", "chosen_fall_se")


def dynamics(monitors: pd.DataFrame, log: pd.DataFrame, kept_step: Mapping[str, Any]) -> pd.DataFrame:
    """Return means over the monitor rows of every cell at every evaluation, with standard errors.

    The start point is the cell itself at step 0: same rows, same batches, so nothing but training moves a margin.

    Args:
        monitors: log-probs, one row per (cell, step, validation row).
        log: one row per (cell, step); cells without one are left out.
        kept_step: of cells that stop early, the step of the weights that they hand over.
    """
    if monitors.empty or log.empty:
        return pd.DataFrame()
    rows = monitors[monitors["cell"].isin(set(log["cell"]))]
    order = rows["cell"].map({cell: place for place, cell in enumerate(dict.fromkeys(rows["cell"]))})
    rows = rows.assign(order=order).sort_values(["order", "step"], kind="stable", ignore_index=True)
    rows["place"] = rows.groupby(["order", "step"]).cumcount()
    columns = [*_with_totals(rows), "margin", "accuracy"]
    grouped = rows.groupby(["order", "cell", "step"])
    table = grouped[columns].mean().join(grouped[columns].sem().add_suffix("_se"))
    table = table.join(_falls(rows), on=["order", "step"]).assign(n=grouped.size()).reset_index()
    table["pairs_seen"] = _seen(table, log)
    # A run that stops early hands over the weights of its best evaluation; what came behind it shows why.
    last = table["cell"].map(kept_step).astype(float)
    table["kept"] = last.isna() | (table["step"] <= last)
    return table.drop(columns="order")


def pairs_seen(steps: Sequence[int], log: pd.DataFrame) -> list[float]:
    """Return the rows that a run had seen after some of its steps; NaN for steps that its log does not have."""
    seen = np.concatenate([[0.0], log["n_rows"].cumsum().to_numpy(dtype=float)])
    return [seen[step] if 0 <= step < len(seen) else float("nan") for step in steps]


def _with_totals(rows: pd.DataFrame) -> list[str]:
    """Add totals and means of every role, margins and accuracies to the rows, and return the names of the former."""
    at_start = rows[rows["step"] == 0].drop_duplicates(["order", "place"]).set_index(["order", "place"])
    place = pd.MultiIndex.from_frame(rows[["order", "place"]])
    gained = {}
    for role, column in _ROLES.items():
        if f"{column}_total" not in rows:
            continue  # studies did not always follow unseen answers
        total = pd.to_numeric(rows[f"{column}_total"])
        before = pd.to_numeric(at_start[f"{column}_total"]).reindex(place).to_numpy()
        rows[f"{role}_mean"] = total / pd.to_numeric(rows[f"{column}_length"])
        rows[f"{role}_total"] = total
        gained[role] = total - before
    rows["margin"] = gained["chosen"] - gained["rejected"]
    rows["accuracy"] = ((rows["margin"] > 0) + 0.5 * (rows["margin"] == 0)).where(rows["margin"].notna())
    return [f"{role}_{what}" for role in gained for what in ("total", "mean")]


def _seen(table: pd.DataFrame, log: pd.DataFrame) -> "pd.Series[float]":
    logs = dict(list(log[["cell", "n_rows"]].groupby("cell", sort=False)))
    parts = [pd.Series(pairs_seen(own.tolist(), logs[cell]), own.index) for cell, own in table.groupby("cell")["step"]]
    return pd.concat(parts)


def _falls(rows: pd.DataFrame) -> pd.DataFrame:
    """Return, per cell and step, where the chosen responses were likeliest so far and how far they have fallen since.

    Columns: `peak_step`; `chosen_fall`, nats per response, and its standard error over the same responses.
    """
    found, keys = [], []
    arrays = (rows[name].to_numpy() for name in ("order", "step", "place", "chosen_total"))
    order, step, place, total = arrays
    bounds = np.flatnonzero(np.diff(order, prepend=-1, append=-1))
    for first, last in itertools.pairwise(bounds):
        part = slice(first, last)
        steps, column = np.unique(step[part], return_inverse=True)
        wide = np.full((place[part].max() + 1, len(steps)), np.nan)
        wide[place[part], column] = total[part]
        wide = wide[~np.isnan(wide).any(axis=1)]
        if len(wide):
            found += _since_peak(wide, steps)
            keys += [(order[first], each) for each in steps]
    index = pd.MultiIndex.from_tuples(keys, names=["order", "step"]) if keys else None
    return pd.DataFrame(found, index=index, columns=_FALL)


def _since_peak(wide: NDArray[np.float64], steps: NDArray[np.int64]) -> list[tuple[float, float, float]]:
    """Return peak, mean fall and its standard error at every step of `[row, step]` log-probs."""
    means, peak, found = wide.mean(axis=0), 0, []
    for place in range(len(steps)):
        peak = place if means[place] > means[peak] else peak
        fall = wide[:, peak] - wide[:, place]
        se = fall.std(ddof=1) / np.sqrt(len(fall)) if len(fall) > 1 else np.nan
        found.append((float(steps[peak]), float(fall.mean()), float(se)))
    return found
