"""What training won and lost on benchmarks, against the start point and item by item."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from preflab.evals.benchmarks.catalogue import Benchmark, benchmark
from preflab.report.analysis import Analysis
from preflab.report.cells import Cell, Table, measured
from preflab.report.tables import Group
from preflab.report.wording import count, p_value, percent, score_range
from preflab.stats.comparisons import holm, minimum_detectable_difference, paired_comparison, sign_flip_p
from preflab.stats.intervals import Interval, crossed_interval
from preflab.stats.proportions import mcnemar_p, paired_interval

_LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Change:
    """A group's score on a benchmark and its change from the start point.

    Args:
        group: cells that differ in their seed only.
        of: the benchmark.
        score: mean with its interval over items and seeds.
        change: mean change with its interval.
        p: with one seed McNemar's exact test or sign flips of items, else the t test over items and seeds.
        p_adjusted: after Holm's correction over everything from one start point.
        detectable: true change that this comparison finds four times in five.
    """

    group: Group
    of: Benchmark
    score: Interval
    change: Interval
    p: float
    detectable: float
    p_adjusted: float = float("nan")

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `not told apart`."""
        if not self.p_adjusted < _LEVEL:
            return "not told apart"
        return "better" if (self.change.estimate > 0) == self.of.higher_is_better else "worse"


def tables(analysis: Analysis, best_start: str) -> list[dict[str, Any]]:
    """Return one table per start point, the best one first and unfolded; none where no benchmark ran."""
    result: list[dict[str, Any]] = []
    for start in sorted(analysis.starts, key=lambda start: start != best_start):
        found = changes(analysis, start)
        if found:
            title = f"From {start}, {count(analysis.size, 'training pair')}"
            result.append({"title": title, "table": _table(analysis, start, found), "lines": _lines(analysis, found),
                           "open": not result})  # fmt: skip
    return result


def changes(analysis: Analysis, start: str) -> list[Change]:
    """Return the changes of every method from one start point at the largest size, corrected for all of them."""
    cells, scored = analysis.tables.cells, analysis.tables.benchmarks
    if scored.empty:
        return []
    mine = cells[(cells["start"] == start) & cells["selected"]]
    before = {int(c.seed): str(c.cell) for c in mine[mine["method"] == ""].itertuples()}
    found = []
    for method in analysis.methods:
        trained = mine[(mine["method"] == method) & (mine["size"] == analysis.size)]
        pairs = [(str(c.cell), before.get(int(c.seed), before.get(-1, ""))) for c in trained.itertuples()]
        for name in dict.fromkeys(scored["benchmark"]):
            table = scored[scored["benchmark"] == name]
            change = _change(Group(start, method, analysis.size), benchmark(str(name)), table, pairs)
            found += [change] if change else []
    adjusted = holm([each.p for each in found])
    return [replace(each, p_adjusted=float(p)) for each, p in zip(found, adjusted, strict=True)]


def _change(group: Group, of: Benchmark, table: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> Change | None:
    by_cell = {str(cell): rows.set_index("item") for cell, rows in table.groupby("cell")}
    there = [(after, before) for after, before in pairs if after in by_cell and before in by_cell]
    if not there:
        return None
    items = by_cell[there[0][0]].index
    labels = by_cell[there[0][0]]["cluster"].astype(str)
    clusters = None if not labels.any() or labels.is_unique else [label or item for label, item in labels.items()]
    after, before = (np.stack([_values(by_cell[pair[k]], items) for pair in there]) for k in (0, 1))
    score = crossed_interval(after, clusters=clusters)
    gaps = after - before
    binary = bool(np.isin([after, before], (0.0, 1.0)).all())
    if binary and (not gaps.any() or (clusters is None and len(there) == 1)):
        # Right or wrong once, or nothing changed with any seed: no spread of seeds to estimate.
        won, lost = int((gaps[0] > 0).sum()), int((gaps[0] < 0).sum())
        interval = paired_interval(won, lost, len(set(clusters)) if clusters else gaps.shape[1])
        detectable = minimum_detectable_difference(interval.se, interval.df)
        return Change(group, of, score, interval, mcnemar_p(won, lost), detectable)
    found = paired_comparison(after, before, clusters=clusters)
    p = found.p if len(there) > 1 else float(sign_flip_p(gaps[0], clusters=clusters)[0])
    return Change(group, of, score, found.difference, p, found.minimum_detectable)


def _values(rows: pd.DataFrame, items: pd.Index) -> NDArray[np.float64]:
    return rows.loc[items, "value"].to_numpy(dtype=np.float64)


def _table(analysis: Analysis, start: str, found: Sequence[Change]) -> Table:
    methods = list(dict.fromkeys(each.group.method for each in found))
    cells, scored = analysis.tables.cells, analysis.tables.benchmarks
    begun = cells[(cells["start"] == start) & (cells["method"] == "")]["cell"]
    head = [("Benchmark", ""), ("Start point", "%")]
    head += [(analysis.title(method), "change in points, 95 %; p after Holm") for method in methods]
    rows = []
    for of in dict.fromkeys(each.of for each in found):
        own = scored[(scored["benchmark"] == of.name) & scored["cell"].isin(begun)]["value"]
        by_method = {each.group.method: each for each in found if each.of == of}
        note = of.metric if of.higher_is_better else f"{of.metric}, lower is better"
        rows.append(
            [
                Cell(of.title, f"{note}; {own.size // max(len(begun), 1):,} items", "text"),
                Cell(percent(float(own.mean()), 1), value=float(own.mean())),
                *(_cell(by_method.get(method)) for method in methods),
            ]
        )
    caption = f"Benchmarks from {start}: the start point's score, and what each method changed. Bold: told apart."
    return Table(caption, head, rows, f"benchmarks-{start}")


def _cell(change: Change | None) -> Cell:
    if change is None:
        return Cell("–", kind="muted")
    value = 100 * change.change.estimate
    note = f"{score_range(change.change, rate=True, sign=True)}; {p_value(change.p_adjusted)}"
    return measured(f"{value:+.1f}", change.change, note, "best" if change.verdict != "not told apart" else "num")


def _lines(analysis: Analysis, found: Sequence[Change]) -> list[str]:
    """Say in one sentence per method what it won and lost."""
    lines = []
    for method in dict.fromkeys(each.group.method for each in found):
        own = [each for each in found if each.group.method == method]
        said = [
            f"{verdict} on {', '.join(each.of.title for each in own if each.verdict == verdict)}"
            for verdict in ("better", "worse")
            if any(each.verdict == verdict for each in own)
        ]
        rest = sum(each.verdict == "not told apart" for each in own)
        if rest:
            smallest, largest = (100 * f(each.detectable for each in own) for f in (min, max))
            said.append(
                f"not told apart on {rest} of {len(own)} (found four times in five: changes of {smallest:.0f} to "
                f"{largest:.0f} points)"
            )
        lines.append(f"{analysis.title(method)}: {'; '.join(said)}.")
    return lines
