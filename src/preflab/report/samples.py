"""The generations a page carries: a sample small enough to load, as plain data for the viewer."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from preflab.report.analysis import SPLITS, Analysis
from preflab.report.tables import final_cells

MAX_BYTES = 2_500_000
MAX_CHARACTERS = 3_000
PER_SPLIT = 60

_CONTROLS = {code: chr(0x2400 + code) for code in range(32) if code not in (9, 10)} | {127: "\u2421"}


@dataclass(frozen=True, slots=True)
class Samples:
    """What the side-by-side shows.

    Args:
        data: JSON-like: `groups` (start, method, title, seed) and `items` (split, row, family, prompt, chosen,
            rejected, `responses` in the order of the groups, null where there is none), and `apart`, the difference of
            scores from which methods disagree, null where nothing is scored.
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
    whole = str(text).replace("\r\n", "\n").translate(_CONTROLS)
    cut = whole[:MAX_CHARACTERS]
    if len(whole) > len(cut):
        cut += f" … ({len(whole) - len(cut):,} more characters)"
    return cut.encode("utf-8", "replace").decode("utf-8")


def sample(analysis: Analysis) -> Samples:
    """Choose prompts and collect their responses: half where methods differ most in reward, half evenly spaced."""
    groups = _groups(analysis)
    frame = analysis.tables.responses
    frame = frame[frame["cell"].isin([g["cell"] for g in groups])].drop_duplicates(["cell", "split", "row"])
    total = len(frame[["split", "row"]].drop_duplicates())
    for limit in (PER_SPLIT, 40, 24, 12, 6, 3):
        items = _items(frame, groups, limit)
        data = {"groups": [{k: v for k, v in g.items() if k != "cell"} for g in groups], "items": items,
                "apart": _apart(items)}  # fmt: skip
        if len(json.dumps(data)) <= MAX_BYTES:
            break
    return Samples(data, len(items), total)


def _groups(analysis: Analysis) -> list[dict[str, Any]]:
    """Return one cell per start point and method at the largest size, with the lowest seed."""
    cells = final_cells(analysis.tables)
    cells = cells[(cells["method"] == "") | (cells["size"] == analysis.size)].sort_values("seed", kind="stable")
    first = cells.drop_duplicates(["start", "method"])
    rank = {method: k for k, method in enumerate(["", *analysis.methods])}
    order = sorted(
        first.itertuples(), key=lambda c: (analysis.starts.index(str(c.start)), rank.get(str(c.method), len(rank)))
    )
    return [
        {
            "cell": str(cell.cell),
            "start": visible(cell.start),
            "method": visible(cell.method),
            "title": visible(analysis.title(str(cell.method))),
            "seed": int(cell.seed),
        }
        for cell in order
    ]


def _items(frame: pd.DataFrame, groups: list[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    items = []
    for split in SPLITS:
        mine = frame[frame["split"] == split]
        spread = mine.pivot_table(index="row", columns="cell", values="reward", dropna=False).std(axis=1).fillna(0.0)
        chosen = _choose(spread, limit)
        by_row = {row: part.set_index("cell") for row, part in mine[mine["row"].isin(chosen)].groupby("row")}
        items += [_item(split, row, by_row[row], groups, float(spread.get(row, 0.0))) for row in chosen]
    return items


def _apart(items: list[dict[str, Any]]) -> float | None:
    """Return a tenth of the range of all scores on the page."""
    scores = [r[3] for item in items for r in item["responses"] if r is not None and r[3] is not None]
    return float(f"{(max(scores) - min(scores)) / 10:.2g}") if scores and max(scores) > min(scores) else None


def _choose(spread: pd.Series, limit: int) -> list[Any]:
    """Return rows: the most disputed ones and an even sample of the others, in the order of the split."""
    rows = list(spread.index)
    if len(rows) <= limit:
        return rows
    disputed = set(spread.sort_values(ascending=False, kind="stable").index[: limit // 2])
    others = [row for row in rows if row not in disputed]
    even = {others[k] for k in np.linspace(0, len(others) - 1, limit - len(disputed)).astype(int)}
    return [row for row in rows if row in disputed or row in even]


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
