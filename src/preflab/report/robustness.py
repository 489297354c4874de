"""How much a method depends on its settings: what somebody gets who searches little, or not at all.

References:
    Ahrabian et al., A Practical Analysis of Human Alignment with *PO, 2024, arXiv:2407.15229, for reporting best and
    typical case side by side, and scores over all settings instead of those of the best one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from preflab.report.analysis import SPLITS, Analysis
from preflab.report.cells import Cell, Table, measured
from preflab.report.edges import edges
from preflab.report.equal_budgets import budget_sentence, budget_table
from preflab.report.ranking import SIGNIFICANT
from preflab.report.robustness_figures import chance, curve_figure, effects_figure, kl_figure, profile_figure
from preflab.report.settings import ENDED, VALIDATION, MethodGrid, SettingScores, setting_scores
from preflab.report.svg import FigureText
from preflab.report.wording import MISSING, big, count, names, number, percent, probability, score, score_range, size_of
from preflab.stats.comparisons import holm, paired_comparison
from preflab.stats.intervals import Interval, crossed_interval, wilson_interval
from preflab.stats.robustness import Stability, expected_best_intervals, main_effects, rank_stability

_SPLIT_NAMES = {"test": "test prompts", "ood": "out-of-distribution prompts", VALIDATION: "validation scores"}


@dataclass(frozen=True, slots=True)
class MethodRobustness:
    """What the settings of one method scored.

    Args:
        found: the scores behind it.
        chosen: score of the setting that validation chooses.
        median: of the middle setting.
        worst: of the setting with the lowest mean.
        expected: expected score of the best of k random settings, for k = 1 .. n.
        better: settings whose mean beats the start point; None where its score is not known.
        clearly: of those, settings told apart from it (5 %, Holm over the settings of the method).
    """

    found: MethodGrid
    chosen: Interval
    median: Interval
    worst: Interval
    expected: tuple[Interval, ...]
    better: int | None
    clearly: int | None


@dataclass(frozen=True, slots=True)
class Robustness:
    """The methods of one start point on one split, and how stable their order is.

    Args:
        scores: the scores behind it.
        methods: by name.
        stability: `best` and `median` to the order's stability; empty with one method.
    """

    scores: SettingScores
    methods: Mapping[str, MethodRobustness]
    stability: Mapping[str, Stability]

    @property
    def has_middle(self) -> bool:
        """Whether every grid has a middle setting: of two, the middle is their mean."""
        return min(len(method.expected) for method in self.methods.values()) > 2

    @property
    def chance(self) -> str:
        """What the draws of its order draw anew, in words: validation scores hold no single prompts."""
        n_seeds = max(grid.values.shape[1] for grid in self.scores.grids.values())
        return names(["settings", *(["seeds"] if n_seeds > 1 else []), *(["prompts"] if self.scores.clusters else [])])


def robustness(analysis: Analysis, start: str, split: str) -> Robustness | None:
    """Return what the settings of all methods scored from a start point at the largest size, or None without grids."""
    scores = setting_scores(analysis.tables, analysis.metric, start, analysis.size, split)
    if scores is None:
        return None
    clusters = scores.clusters or None
    ranking = analysis.ranking(split, start)
    quoted = {row.method: row.overall for row in ranking.rows} if ranking else {}
    methods = {name: _method(found, scores, quoted.get(name)) for name, found in scores.methods.items()}
    grids = scores.grids
    stability = {kind: rank_stability(grids, kind, clusters=clusters) for kind in ("best", "median") if len(grids) > 1}
    return Robustness(scores, methods, stability)


def _method(found: MethodGrid, scores: SettingScores, quoted: Interval | None) -> MethodRobustness:
    clusters, grid = scores.clusters or None, found.grid
    means = grid.means
    middle = np.argsort(means, kind="stable")[(len(means) - 1) // 2 : len(means) // 2 + 1]
    better = clearly = None
    if scores.start_values is not None:
        start = np.broadcast_to(scores.start_values, grid.values.shape[1:])
        tried = [k for k, label in enumerate(found.labels) if label not in found.diverged]
        tests = [paired_comparison(grid.values[k], start, clusters=clusters) for k in tried]
        better = sum(test.difference.estimate > 0 for test in tests)
        adjusted = holm([test.p for test in tests])
        clearly = sum(p < SIGNIFICANT and t.difference.estimate > 0 for p, t in zip(adjusted, tests, strict=True))

    def of(settings: Any) -> Interval:
        return crossed_interval(grid.values[settings].mean(axis=0), clusters=clusters)

    chosen = of(grid.chosen_by == grid.chosen_by.max())
    # The ranking knows more of the variance of seeds than one setting does.
    same = quoted is not None and math.isclose(quoted.estimate, chosen.estimate, rel_tol=1e-9, abs_tol=1e-12)
    return MethodRobustness(
        found=found,
        chosen=quoted if quoted is not None and same else chosen,
        median=of(middle),
        worst=of([means.argmin()]),
        expected=expected_best_intervals(grid, clusters=clusters),
        better=better,
        clearly=clearly,
    )


def context(analysis: Analysis, best_start: str) -> dict[str, Any] | None:
    """Return what the section shows, or None where no method has two settings."""
    starts = sorted(analysis.starts, key=lambda start: start != best_start)
    found = {(s, split): r for s in starts for split in SPLITS if (r := robustness(analysis, s, split)) is not None}
    if not found:
        found = {(s, VALIDATION): r for s in starts if (r := robustness(analysis, s, VALIDATION)) is not None}
    if not found:
        return None
    return {
        "sentences": _sentences(analysis, found),
        "budgets": _budgets(analysis, found),
        "left_out": [line for key, result in found.items() if (line := _left_out(analysis, *key, result))],
        "chance": chance(found.values()),
        "edges": [line for start in starts if (line := _edges(analysis, start))],
        "validation_only": any(split == VALIDATION for _, split in found),
        "figures": _drawn_ones(curve_figure(analysis, found), kl_figure(analysis, best_start)),
        "folded_figures": _drawn_ones(profile_figure(analysis, found), effects_figure(analysis, found)),
        "blocks": [_block(analysis, r, opened=k == 0) for k, r in enumerate(found.values())],
    }


def _drawn_ones(*figures: FigureText | None) -> list[FigureText]:
    return [figure for figure in figures if figure is not None]


def safest(analysis: Analysis, start: str, leader: str) -> str:
    """Say in a sentence which method to take without a search over settings; empty where no grids can be compared.

    Args:
        analysis: the study's numbers.
        start: start point.
        leader: the method that leads with its chosen setting.
    """
    found = next((r for split in (*SPLITS, VALIDATION) if (r := robustness(analysis, start, split)) is not None), None)
    if found is None or not found.stability or leader not in found.methods or not found.has_middle:
        return ""
    on = " on validation" if found.scores.split == VALIDATION else ""
    rate, middle = analysis.metric.is_rate, {name: m.median for name, m in found.methods.items()}
    safe = max(middle, key=lambda name: middle[name].estimate)
    often = f"in {_share(found.stability['median'], safe)} of the draws of {found.chance}"
    value = f"its middle setting scores {score(middle[safe].estimate, rate=rate)} "
    value += f"({score_range(middle[safe], rate=rate)}){on}, best {often}"
    if safe == leader:
        return f"It is also the safest without a search over settings: {value}."
    return (
        f"Without a search over settings {analysis.title(safe)} is safer: {value}; {analysis.title(leader)}’s scores "
        f"{score(middle[leader].estimate, rate=rate)}."
    )


def _sentences(analysis: Analysis, found: Mapping[tuple[str, str], Robustness]) -> list[str]:
    """Say which method is safest for those who cannot search, per split of the first start point."""
    first = next(iter(found))[0]
    lines = []
    for (start, split), result in found.items():
        if start != first or not result.stability:
            continue
        rate = analysis.metric.is_rate
        typical = sorted(result.methods, key=lambda name: -result.methods[name].median.estimate)
        best = sorted(result.methods, key=lambda name: -result.methods[name].chosen.estimate)
        safe = result.methods[typical[0]]
        where = _SPLIT_NAMES[split] if split != VALIDATION else "the validation prompts"
        text = (
            f"If you cannot search, {analysis.title(typical[0])} from {start} is the safest on {where}: its middle "
            f"setting{'' if result.has_middle else ' (of two, their mean)'} scores "
            f"{score(safe.median.estimate, rate=rate)} ({score_range(safe.median, rate=rate)})"
        )
        if result.scores.start_values is not None:
            text += f", the start point {score(float(result.scores.start_values.mean()), rate=rate)}"
        often = _share(result.stability["median"], typical[0])
        text += f"; it has the best middle setting in {often} of the draws of {result.chance}. "
        own = _share(result.stability["best"], best[0])
        if best[0] == typical[0]:
            text += f"It also leads where validation searches the whole grid ({own})."
        else:
            text += f"Where validation searches the whole grid, {analysis.title(best[0])} leads ({own})."
        if best != typical:
            text += (
                f" The orders differ: {', '.join(map(analysis.title, best))} at their best, "
                f"{', '.join(map(analysis.title, typical))} in the middle."
            )
        lines.append(text)
        if budgets := budget_sentence(analysis, result.scores, where):
            lines.append(budgets)
    return lines


def _edges(analysis: Analysis, start: str) -> str:
    """Say which selected values are the last ones tried, all methods together; empty where none is."""
    said = []
    for e in edges(analysis.tables.cells, start, analysis.size):
        level = "; the next value is as good" if e.flat else ""
        about = f" ({e.name} {e.value:g}, the {e.side}{level})" if e.name else ""
        said.append(analysis.title(e.method) + about)
    return f"from {start}: {names(said)}" if said else ""


def _share(stability: Stability, method: str) -> str:
    source = "all" if "all" in stability.first else next(iter(stability.first))
    return probability(stability.first[source][method])


def _left_out(analysis: Analysis, start: str, split: str, result: Robustness) -> str:
    """Say which methods with several settings are not compared, and why; empty where all are."""
    cells = analysis.tables.cells
    here = cells[(cells["start"] == start) & (cells["size"] == analysis.size) & (cells["method"] != "")]
    said = []
    for method, mine in here.groupby("method", sort=False):
        if mine["setting"].nunique() < 2 or method in result.methods:
            continue
        states = [f"{n} {state}" for state, n in mine["status"].value_counts().items() if state != "done"]
        why = names(states) if states else "not every setting was evaluated"
        said.append(f"{analysis.title(str(method))} ({why}, of {count(len(mine), 'run')})")
    where = _SPLIT_NAMES[split]
    return f"Not compared here, from {start} on {where}: {names(said)}." if said else ""


def _budgets(analysis: Analysis, found: Mapping[tuple[str, str], Robustness]) -> str:
    """State whether all methods had the same budget of settings, runs and tokens."""
    start, _ = next(iter(found))
    cells = analysis.tables.cells
    trained = cells[(cells["start"] == start) & (cells["size"] == analysis.size) & (cells["method"] != "")]
    trained = trained[trained["status"].isin(ENDED)]
    tried = {str(name): (mine["setting"].nunique(), len(mine)) for name, mine in trained.groupby("method", sort=False)}
    tokens = [float(mine["tokens"].sum()) for _, mine in trained.groupby("method")]
    if len(set(tried.values())) == 1:
        n_settings, runs = next(iter(tried.values()))
        text = (
            f"Equal tuning budgets: {count(n_settings, 'setting')}, {count(runs, 'run')} for every method from {start}"
        )
    else:
        alike: dict[tuple[int, int], list[str]] = {}
        for name, budget in tried.items():
            alike.setdefault(budget, []).append(analysis.title(name))
        parts = [f"{names(who)} {count(n, 'setting')} in {count(runs, 'run')}" for (n, runs), who in alike.items()]
        fewest = min(n for n, _ in tried.values())
        text = (
            f"Unequal tuning budgets from {start}: {'; '.join(parts)}. A larger grid finds a better best by chance "
            f"alone, so compare {'one random setting' if fewest == 1 else f'the expected best of {fewest}'}"
        )
    if min(tokens) > 0:
        same = max(tokens) / min(tokens) < 1.02
        text += f"; {big(max(tokens))} training tokens each" if same else (
            f"; training tokens {big(min(tokens))} to {big(max(tokens))}"
        )  # fmt: skip
    return text + "."


def _block(analysis: Analysis, result: Robustness, *, opened: bool) -> dict[str, Any]:
    start, split = result.scores.start, result.scores.split
    budgets = budget_table(analysis, result.scores, _SPLIT_NAMES[split])
    tables = [_table(analysis, result), budgets, _stability_table(analysis, result), _effects_table(analysis, result)]
    return {
        "title": f"From {start}, {_SPLIT_NAMES[split]}",
        "tables": [table for table in tables if table is not None],
        "open": opened,
    }


def _table(analysis: Analysis, result: Robustness) -> Table:
    rate, split = analysis.metric.is_rate, result.scores.split
    head = [
        ("Method", ""), ("Settings", "runs that diverged, 95 % Wilson interval"),
        ("Chosen setting", "by validation; 95 % interval"), ("Middle setting", "95 % interval"),
        ("Worst setting", "95 % interval"),
        ("Beat the start point", "settings; of them told apart from it"),
        ("One random setting", "95 % interval"), ("Best of 3", "random settings, expected; 95 % interval"),
        ("Middle half", "width; lower to upper quartile"), ("Spread", "highest − lowest; lowest to highest"),
    ]  # fmt: skip
    rows = []
    for name, m in result.methods.items():
        means, grid = m.found.grid.means, m.found
        diverged = wilson_interval(grid.diverged_runs, grid.runs) if grid.runs else None
        note = f"{grid.diverged_runs} of {grid.runs} runs diverged"
        note += f" ({percent(diverged.low)} to {percent(diverged.high)})" if diverged else ""
        low, high = np.quantile(means, [0.25, 0.75])
        rows.append([
            Cell(analysis.title(name), kind="text"),
            Cell(str(len(grid.labels)) + (f" and {grid.stopped} stopped" if grid.stopped else ""), note,
                 value=len(grid.labels)),
            _cell(m.chosen, rate=rate), _cell(m.median, rate=rate) if len(means) > 2 else Cell(MISSING),
            _cell(m.worst, rate=rate), _beaten(m), _cell(m.expected[0], rate=rate),
            _cell(m.expected[2], rate=rate) if len(m.expected) > 2 else Cell(MISSING),
            _width(low, high, rate=rate) if len(means) > 2 else Cell(MISSING),
            _width(means.min(), means.max(), rate=rate),
        ])  # fmt: skip
    caption = (
        f"Scores over the settings of each method, {_SPLIT_NAMES[split]}, {count(analysis.size, 'training pair')}."
    )
    shown = [k for k, column in enumerate(zip(*rows, strict=True)) if any(cell.text != MISSING for cell in column)]
    head, rows = [head[k] for k in shown], [[row[k] for k in shown] for row in rows]
    return Table(caption, head, rows, f"robustness-{split}-{result.scores.start}")


def _beaten(m: MethodRobustness) -> Cell:
    if m.better is None:
        return Cell(MISSING)
    n = len(m.found.labels)
    return Cell(f"{m.better} of {n}", f"{m.clearly} clearly", value=m.better / n)


def _width(low: float, high: float, *, rate: bool) -> Cell:
    note = f"{score(low, rate=rate)} to {score(high, rate=rate)}"
    return Cell(size_of(high - low, rate=rate), note, value=float(high - low))


def _cell(interval: Interval, *, rate: bool) -> Cell:
    return measured(score(interval.estimate, rate=rate), interval, score_range(interval, rate=rate))


def _stability_table(analysis: Analysis, result: Robustness) -> Table | None:
    if not result.stability:
        return None
    sources = list(next(iter(result.stability.values())).first)
    head = [("Method", ""), *((f"{title}: {source}", "") for title in ("Best", "Middle") for source in sources)]
    drawn = [(stability, source) for stability in result.stability.values() for source in sources]
    rows = [
        [Cell(analysis.title(name), kind="text"), *(_first(s.first[source][name]) for s, source in drawn)]
        for name in result.methods
    ]
    taus = [
        Cell(number(s.tau[source], 2), " to ".join(number(t, 2) for t in s.tau_range[source]), "num", s.tau[source],
             *s.tau_range[source])
        for s, source in drawn
    ]  # fmt: skip
    rows.append([Cell("Kendall’s τ with the order found", kind="text"), *taus])
    caption = (
        "How often each method is first when settings, seeds or prompts are drawn anew: by the setting that validation "
        "chooses (best), and by the middle setting. Kendall’s τ: mean, and range of 95 % of the draws. The "
        "ranking’s P(best) keeps the chosen settings and draws seeds and prompts."
    )
    return Table(caption, head, rows, f"stability-{result.scores.split}-{result.scores.start}")


def _first(share: float) -> Cell:
    return Cell(probability(share), value=share)


def _effects_table(analysis: Analysis, result: Robustness) -> Table | None:
    rate = analysis.metric.is_rate
    rows: list[Sequence[Cell]] = []
    for name, m in result.methods.items():
        found = main_effects(m.found.grid, m.found.settings, clusters=result.scores.clusters or None)
        for parameter, effect in sorted(found.items(), key=lambda each: -each[1].share):
            levels = [f"{_level(value)}: {score(mean, rate=rate)}" for value, mean in effect.levels.items()]
            rows.append([
                Cell(f"{analysis.title(name)}, {parameter}", kind="text"),
                _cell(effect.span, rate=rate),
                Cell(percent(effect.share), value=effect.share), Cell("; ".join(levels), kind="text"),
            ])  # fmt: skip
    head = [
        ("Method and hyper-parameter", ""), ("Best over worst value", "mean over the other settings; 95 % interval"),
        ("Share of the variance", "between settings"), ("Mean score by value", ""),
    ]  # fmt: skip
    name = f"hyperparameters-{result.scores.split}-{result.scores.start}"
    return Table("What each hyper-parameter does to the score.", head, rows, name) if rows else None


def _level(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
