"""Scores by family of tasks: those of benchmarks where a study has them, else those of the pocket world."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from preflab.evals.benchmarks.catalogue import benchmark
from preflab.report.tables import Measure, StudyTables, by_group, final_cells, measure

POCKET: Mapping[str, tuple[str, str]] = {
    "dialogue": ("dialogue", "reward"),
    "reasoning": ("reasoning", "reward_right"),
    "mathematics": ("arithmetic", "reward_right"),
    "question answering": ("facts", "reward_right"),
    "truthfulness": ("truth", "reward_right"),
    "multi-task understanding": ("choice", "reward_right"),
}
"""Groups of the benchmark literature to the pocket world's family that mirrors them, and what is measured there: the
gold reward of a dialogue, and whether other answers are right."""


def task_scores(tables: StudyTables, split: str = "test") -> dict[str, Measure]:
    """Return the scores of every family of tasks that the study has, by the literature's name of the family.

    Benchmarks of one family count alike, whatever their numbers of items. Without benchmarks the families are those of
    the held-out prompts; names that are not the pocket world's stay as they are, with the headline reward.

    Args:
        tables: completed tables.
        split: of the held-out prompts, `test` or `ood`; benchmarks have none.
    """
    if not tables.benchmarks.empty:
        return _benchmarks(tables)
    found: dict[str, Measure] = {}
    columns: dict[str, Measure] = {}
    own = {family: name for name, (family, _) in POCKET.items()}
    rewarded = measure(tables, split, "reward")
    for family in dict.fromkeys(rewarded.families):
        name = own.get(family, family)
        column = POCKET[name][1] if family in own else "reward"
        if column != "reward" and not tables.responses.get(column, pd.Series(dtype=float)).notna().any():
            column = "reward"
        if column not in columns:
            columns[column] = rewarded if column == "reward" else measure(tables, split, column)
        if name and columns[column].rows:
            found[name] = _only(columns[column], family)
    order = [name for name in POCKET if name in found]
    return {name: found[name] for name in [*order, *(name for name in found if name not in order)]}


def _only(scores: Measure, family: str) -> Measure:
    """Return a measure on the items of one family."""
    own = np.array([each == family for each in scores.families])
    return replace(
        scores,
        values={group: table[:, own] for group, table in scores.values.items()},
        clusters=tuple(c for c, mine in zip(scores.clusters, own, strict=True) if mine),
        families=(family,) * int(own.sum()),
        rows=tuple(r for r, mine in zip(scores.rows, own, strict=True) if mine),
    )


def _benchmarks(tables: StudyTables) -> dict[str, Measure]:
    cells = final_cells(tables)
    scored = tables.benchmarks[tables.benchmarks["cell"].isin(cells["cell"])]
    found = {}
    for family in dict.fromkeys(benchmark(str(name)).family for name in dict.fromkeys(scored["benchmark"])):
        names = [str(n) for n in dict.fromkeys(scored["benchmark"]) if benchmark(str(n)).family == family]
        parts = []
        for name in names:
            own = scored[scored["benchmark"] == name]
            wide = own.pivot_table(index="item", columns="cell", values="value")
            # An item weighs as much as its benchmark has few of them, so that benchmarks count alike.
            parts.append((name, wide, own.drop_duplicates("item").set_index("item")["cluster"].astype(str)))
        cells_with_all = set.intersection(*(set(wide.columns) for _, wide, _ in parts))
        total = sum(len(wide) for _, wide, _ in parts)
        frames, clusters = [], []
        for name, wide, labels in parts:
            weight = total / (len(parts) * len(wide))
            sign = 1.0 if benchmark(name).higher_is_better else -1.0
            places = [f"{name}/{item}" for item in wide.index]
            frames.append(wide[sorted(cells_with_all)].set_axis(places) * weight * sign)
            clusters += [f"{name}/{labels[item] or item}" for item in wide.index]
        table = pd.concat(frames).dropna()
        kept = {place: k for k, place in enumerate(pd.concat(frames).index)}
        values, seeds = by_group(table, cells)
        found[family] = Measure(
            split="test",
            values=values,
            seeds=seeds,
            clusters=tuple(clusters[kept[place]] for place in table.index),
            families=(family,) * len(table),
            rows=tuple(range(len(table))),
            is_rate=len(parts) == 1,
        )
    return found
