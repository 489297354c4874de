"""How far methods are apart after equally many settings tried, whatever the sizes of their grids."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from preflab.report.analysis import Analysis
from preflab.report.cells import Cell, Table, measured
from preflab.report.ranking import SIGNIFICANT, compare_groups
from preflab.report.settings import VALIDATION, SettingScores
from preflab.report.tables import Group, Measure
from preflab.report.wording import MISSING, names, p_value, score, score_range
from preflab.stats.comparisons import Comparison, holm
from preflab.stats.robustness import expected_best_scores


@dataclass(frozen=True, slots=True)
class EqualBudget:
    """The methods after k settings tried at random.

    Args:
        k: settings tried.
        best: the method with the highest expected score.
        behind: every other method to the best one minus itself, paired over seeds and items.
        p: the same to its p-value after Holm's correction over all pairs of methods and all k.
    """

    k: int
    best: str
    behind: Mapping[str, Comparison]
    p: Mapping[str, float]


def equal_budgets(scores: SettingScores) -> list[EqualBudget]:
    """Compare the methods after one setting tried and after as many as the smallest grid has.

    None with fewer than two methods, and none on validation scores, of which only means over items are kept.
    """
    grids = scores.methods
    if len(grids) < 2 or scores.split == VALIDATION:
        return []
    tried = sorted({1, min(len(found.labels) for found in grids.values())})
    # Which method is the best one was asked of the same data: all pairs count.
    return [_at(scores, k, family=len(tried) * math.comb(len(grids), 2)) for k in tried]


def _at(scores: SettingScores, k: int, family: int) -> EqualBudget:
    groups = {method: Group(scores.start, method, 1) for method in scores.methods}
    n = len(scores.clusters)
    measure = Measure(
        split=scores.split,
        values={groups[m]: expected_best_scores(found.grid, k) for m, found in scores.methods.items()},
        seeds={groups[m]: found.seeds for m, found in scores.methods.items()},
        clusters=scores.clusters,
        families=("",) * n,
        rows=tuple(range(n)),
    )
    best = max(groups, key=lambda method: float(measure.values[groups[method]].mean()))
    behind = {m: compare_groups(measure, groups[best], group) for m, group in groups.items() if m != best}
    # Where no spread can be estimated nothing is told apart, and the comparison still counts in the correction.
    adjusted = holm([1.0 if found.p != found.p else found.p for found in behind.values()], family=family)
    return EqualBudget(k, best, behind, dict(zip(behind, map(float, adjusted), strict=True)))


def budget_table(analysis: Analysis, scores: SettingScores, where: str) -> Table | None:
    """Return a row per method and a column per number of settings tried."""
    found, rate = equal_budgets(scores), analysis.metric.is_rate
    if not found:
        return None
    head = [("Method", "")]
    for each in found:
        title = "One random setting" if each.k == 1 else f"Best of {each.k}"
        head += [(f"{title}: behind the best", "paired difference, 95 %"), (f"{title}: p", "after Holm")]
    rows = []
    for method in scores.methods:
        row = [Cell(analysis.title(method), kind="text")]
        for each in found:
            if method == each.best:
                row += [Cell("best", kind="muted"), Cell(MISSING)]
                continue
            gap, p = each.behind[method].difference, each.p[method]
            row.append(measured(score(gap.estimate, rate=rate), gap, score_range(gap, rate=rate)))
            row.append(Cell(p_value(p), value=p))
        rows.append(row)
    caption = f"Methods after equally many settings tried at random, {where}."
    return Table(caption, head, rows, f"budgets-{scores.split}-{scores.start}")


def budget_sentence(analysis: Analysis, scores: SettingScores, where: str) -> str:
    """Say who leads after equally many settings tried and who is not told apart from it; empty without two grids."""
    said = []
    for each in equal_budgets(scores):
        level = [analysis.title(method) for method, p in each.p.items() if p >= SIGNIFICANT]
        rest = f"not told apart: {names(level)}" if level else "all others are told apart below it"
        after = "with one setting" if each.k == 1 else f"with the best of {each.k}"
        said.append(f"{after} {analysis.title(each.best)} leads ({rest})")
    return f"After equally many settings tried at random, on {where}: {'; '.join(said)}." if said else ""
