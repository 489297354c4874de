"""The generations a page carries: a sample small enough to load, as plain data for the viewer."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from preflab.core.texts import without_controls
from preflab.report.analysis import SPLITS, Analysis
from preflab.report.tables import final_cells

MAX_BYTES = 3_000_000
MAX_CHARACTERS = 3_000
_AMOUNTS = ((60, 3), (24, 3), (60, 1), (40, 1), (24, 1), (12, 1), (6, 1), (3, 1))
"""Prompts of a split and seeds of a method, from what is best to read to what fits a page of long texts."""


@dataclass(frozen=True, slots=True)
class Samples:
    """What the side-by-side shows.

    Args:
        data: JSON-like: `groups` (start, method, title, seed, `first` for the lowest seed, and of earlier answers
            `steps` and `at`, their places in `points`), `items` (split, row, family, prompt, chosen, rejected,
            `responses` in the order of the groups, null where there is none, and `earlier`, answers in the order of the
            group's steps), `points`, per cent of the training at which there are earlier answers, and `apart`, the
            difference of scores from which methods disagree, null where nothing is scored.
        shown: prompts on the page.
        total: prompts that have responses.
    """

    data: dict[str, Any]
    shown: int
    total: int


def visible(text: object) -> str:
    """Return text in which nothing can hide: control characters as pictures, no broken surrogates, length capped."""
    if text is None or (isinstance(text, float) and math.isnan(text)):
        return ""
    whole = without_controls(str(text).replace("\r\n", "\n"))
    cut = whole[:MAX_CHARACTERS]
    if len(whole) > len(cut):
        cut += f" … ({len(whole) - len(cut):,} more characters)"
    return cut.encode("utf-8", "replace").decode("utf-8")


def sample(analysis: Analysis) -> Samples:
    """Choose prompts and collect their responses: half where methods differ most in reward, half evenly spaced."""
    every = analysis.tables.responses.drop_duplicates(["cell", "split", "row"])
    for limit, seeds in _AMOUNTS:
        groups = _groups(analysis, seeds)
        earlier = _earlier(analysis.tables.snapshots, groups)
        frame = every[every["cell"].isin([g["cell"] for g in groups])]
        items = _items(frame, groups, earlier, limit)
        data = {
            "groups": [{k: v for k, v in g.items() if k != "cell"} for g in groups],
            "items": items,
            "points": sorted({point for g in groups for point in g["at"]}),
            "apart": _apart(items),
        }
        if len(json.dumps(data)) <= MAX_BYTES:
            break
    return Samples(data, len(items), len(frame[["split", "row"]].drop_duplicates()))


def _groups(analysis: Analysis, seeds: int) -> list[dict[str, Any]]:
    """Return the cells of every start point and method at the largest size with the lowest seeds."""
    cells = final_cells(analysis.tables)
    cells = cells[(cells["method"] == "") | (cells["size"] == analysis.size)].sort_values("seed", kind="stable")
    place = cells.groupby(["start", "method"]).cumcount()
    cells = cells.assign(first=place == 0)[place < seeds]
    rank = {method: k for k, method in enumerate(["", *analysis.methods])}
    order = sorted(
        cells.itertuples(), key=lambda c: (analysis.starts.index(str(c.start)), rank.get(str(c.method), len(rank)))
    )
    return [
        {
            "cell": str(cell.cell),
            "start": visible(cell.start),
            "method": visible(cell.method),
            "title": visible(analysis.title(str(cell.method))),
            "seed": int(cell.seed),
            "first": bool(cell.first),
            **_way(analysis.tables.snapshots, cell),
        }
        for cell in order
    ]


def _way(snapshots: pd.DataFrame, cell: Any) -> dict[str, Any]:
    """Return the steps at which a cell has earlier answers, and how far along its training they are, in per cent.

    Methods do not all have the same number of steps: theirs count as the same point when they are within 5 per cent.
    """
    whole = cell.planned_steps if cell.planned_steps > 0 else cell.n_steps
    steps = sorted(int(step) for step in snapshots.loc[snapshots["cell"] == cell.cell, "step"].unique())
    if not steps or not whole > 0:
        return {"steps": [], "at": [], "n_steps": None}
    at = [min(95, max(5, 5 * round(20 * step / whole))) for step in steps]
    return {"steps": steps, "at": at, "n_steps": int(whole)}


_Earlier = Mapping[tuple[str, Any], Mapping[tuple[str, int], list[Any]]]
"""Split and row to cell and step to the answer."""


def _earlier(snapshots: pd.DataFrame, groups: list[dict[str, Any]]) -> _Earlier:
    frame = snapshots[snapshots["cell"].isin([g["cell"] for g in groups if g["steps"]])]
    found: dict[tuple[str, Any], dict[tuple[str, int], list[Any]]] = {}
    for _, row in frame.iterrows():
        found.setdefault((row["split"], row["row"]), {})[row["cell"], int(row["step"])] = _response(row)
    return found


def _items(frame: pd.DataFrame, groups: list[dict[str, Any]], earlier: _Earlier, limit: int) -> list[dict[str, Any]]:
    items = []
    for split in SPLITS:
        mine = frame[frame["split"] == split]
        spread = mine.pivot_table(index="row", columns="cell", values="reward", dropna=False).std(axis=1).fillna(0.0)
        watched = [row for row in spread.index if (split, row) in earlier]
        chosen = _choose(spread, limit, watched)
        by_row = {row: part.set_index("cell") for row, part in mine[mine["row"].isin(chosen)].groupby("row")}
        for row in chosen:
            item = _item(split, row, by_row[row], groups, float(spread.get(row, 0.0)))
            if answers := earlier.get((split, row)):
                item["earlier"] = [[answers.get((g["cell"], step)) for step in g["steps"]] for g in groups]
            items.append(item)
    return items


def _apart(items: list[dict[str, Any]]) -> float | None:
    """Return a tenth of the range of all scores on the page."""
    scores = [r[3] for item in items for r in item["responses"] if r is not None and r[3] is not None]
    return float(f"{(max(scores) - min(scores)) / 10:.2g}") if scores and max(scores) > min(scores) else None


def _choose(spread: pd.Series, limit: int, watched: list[Any]) -> list[Any]:
    """Return rows: half disputed ones, and an even sample of the others, in the order of the split.

    Those that were answered on the way through the training come before the even sample.
    """
    rows = list(spread.index)
    if len(rows) <= limit:
        return rows
    taken = set(spread.sort_values(ascending=False, kind="stable").index[: limit // 2])
    taken |= set([row for row in watched if row not in taken][: limit - len(taken)])
    others = [row for row in rows if row not in taken]
    taken |= {others[k] for k in np.linspace(0, len(others) - 1, limit - len(taken)).astype(int)}
    return [row for row in rows if row in taken]


def _item(split: str, row: Any, part: pd.DataFrame, groups: list[dict[str, Any]], spread: float) -> dict[str, Any]:
    first = part.iloc[0]
    return {
        "split": split,
        "row": int(row),
        "family": visible(first["family"]),
        "prompt": visible(first["prompt"]),
        "chosen": visible(first["chosen"]),
        "rejected": visible(first["rejected"]),
        "chosen_reward": _rounded(first["chosen_reward"]),
        "spread": round(spread, 4),
        "responses": [_response(part.loc[g["cell"]]) if g["cell"] in part.index else None for g in groups],
    }


def _response(row: pd.Series) -> list[Any]:
    return [visible(row["response"]), _rounded(row["n_tokens"], 0), bool(row["truncated"]), _rounded(row["reward"])]


def _rounded(value: Any, digits: int = 3) -> float | None:
    number = float(value)
    return round(number, digits) if math.isfinite(number) else None


def families(items: Iterable[dict[str, Any]]) -> list[str]:
    """Return the task families of the sample, in order of appearance."""
    return list(dict.fromkeys(item["family"] for item in items if item["family"]))
