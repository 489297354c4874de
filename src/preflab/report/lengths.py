"""How long answers are, over all settings where they were evaluated, and who is better on equally long answers."""

import math
from typing import Any

import numpy as np

from preflab.report.analysis import Analysis
from preflab.report.cells import Cell, Table, measured
from preflab.report.figures import SPLIT_TITLES, WIDTH, marker_of, series_of
from preflab.report.points import Points, Series
from preflab.report.settings import SettingScores, setting_scores
from preflab.report.svg import INK, MUTED, FigureText, drawn, panels, style
from preflab.report.tables import Group, Metric, measure
from preflab.report.wording import count, number, percent, score, score_range
from preflab.stats.intervals import crossed_interval
from preflab.stats.matching import Matched, matched_difference

_SHOWN = (
    ("n_tokens", "tokens per response"), ("kl_k3", "KL, nats per response"), ("kl_token", "KL, nats per token"),
)  # fmt: skip


def context(analysis: Analysis, best_start: str) -> dict[str, Any] | None:
    """Return what the section says beside the distributions of the chosen settings, or None."""
    tables = [table for start in analysis.starts if (table := matched_table(analysis, start)) is not None]
    figure = settings_figure(analysis, best_start)
    return {"matched": tables, "settings": figure} if tables or figure else None


def matched_table(analysis: Analysis, start: str) -> Table | None:
    """Return every method against the best one, on all answers and on equally long ones."""
    ranking = analysis.ranking("test", start)
    if ranking is None or len(ranking.rows) < 2 or analysis.metric.name == "accuracy":
        return None
    lengths, scores = measure(analysis.tables, "test", "n_tokens"), analysis.scores["test"]
    if lengths.rows != scores.rows:
        return None
    rate, best = analysis.metric.is_rate, ranking.rows[0].method
    rows = []
    for row in ranking.rows[1:]:
        found = _matched(analysis, start, best, row.method, ranking.size, lengths)
        if found is None or row.behind is None:
            continue
        all_, same = row.behind.difference, found.difference
        turned = all_.estimate * same.estimate < 0 and (same.high < 0 or same.low > 0)
        rows.append([
            Cell(analysis.title(row.method), kind="text"),
            measured(score(all_.estimate, rate=rate, sign=True), all_, score_range(all_, rate=rate, sign=True)),
            measured(score(same.estimate, rate=rate, sign=True), same, score_range(same, rate=rate, sign=True)),
            Cell(percent(found.share), f"{found.n_items} prompts", value=found.share),
            Cell("the order turns" if turned else "", kind="text"),
        ])  # fmt: skip
    head = [
        ("Method", ""), (f"{analysis.title(best)} is ahead by", "all answers"),
        ("Equally long answers", "95 % interval"),
        ("Of the answers", "to the same prompt, same seed"), ("", ""),
    ]  # fmt: skip
    caption = f"The best from {start} against the others where both answers to a prompt are about equally long."
    return Table(caption, head, rows, f"length-matched-{start}") if rows else None


def _matched(analysis: Analysis, start: str, first: str, second: str, size: int, lengths: Any) -> Matched | None:
    scores = analysis.scores["test"]
    groups = [Group(start, method, size) for method in (first, second)]
    if any(group not in scores.values or group not in lengths.values for group in groups):
        return None
    shared = sorted(set.intersection(*(set(m.seeds[g]) for m in (scores, lengths) for g in groups)))
    if not shared:
        return None
    a, b = (scores.values[g][[scores.seeds[g].index(s) for s in shared]] for g in groups)
    la, lb = (lengths.values[g][[lengths.seeds[g].index(s) for s in shared]] for g in groups)
    return matched_difference(a, b, la, lb, clusters=scores.clusters)


def settings_figure(analysis: Analysis, start: str) -> FigureText | None:
    """Length, KL and KL per token of every setting, one row per method; None where settings were not evaluated."""
    split = next((split for split in ("ood", "test") if split in analysis.scores), None)
    if split is None:
        return None
    found = {
        name: setting_scores(analysis.tables, Metric(name, name, False, ""), start, analysis.size, split)
        for name, _ in _SHOWN
    }
    if any(each is None for each in found.values()):
        return None
    methods = [m for m in analysis.methods if all(each is not None and m in each.methods for each in found.values())]
    if not methods:
        return None
    points = Points()
    with style():
        figure, axes = panels(1, len(_SHOWN), width=WIDTH, height=1.0 + 0.45 * len(methods), sharey=True)
        for axis, (name, label) in zip(axes[0], _SHOWN, strict=True):
            scores = found[name]
            assert scores is not None
            axis.grid(axis="y", visible=False)
            for y, method in enumerate(methods):
                _row(axis, y, analysis, method, scores, label, series_of(points, analysis, method))
            if scores.start_values is not None and name == "n_tokens":
                axis.axvline(float(scores.start_values.mean()), color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
            axis.set_xlabel(label)
            if name != "n_tokens":
                axis.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
                axis.set_xlim(left=0)
        axes[0, 0].set_yticks(range(len(methods)), [analysis.title(m) for m in methods], color=INK)
        axes[0, 0].set_ylim(len(methods) - 0.4, -0.6)
    where = "out-of-distribution prompts" if split == "ood" else "test prompts"
    caption = (
        f"One dot per setting, from {start}, {where}; bar: the middle setting; dashed: the start point's length. KL on "
        "a square-root scale."
    )
    return drawn(figure, "settings-lengths", "Length and KL of every setting, by method.", caption, points)


def _row(axis: Any, y: int, analysis: Analysis, method: str, scores: SettingScores, label: str, series: Series) -> None:
    """Draw the settings of one method, slightly apart so that equal ones are seen."""
    found, marker = scores.methods[method], marker_of(analysis, method)
    means = found.grid.means
    order = np.argsort(means, kind="stable")
    apart = y + 0.18 * np.sin(np.arange(len(order)) * 2.4)
    series.drew(axis.plot(means[order], apart, marker, color=series.colour, markersize=3.4, alpha=0.75, linewidth=0))
    series.drew(axis.plot([np.median(means)] * 2, [y - 0.3, y + 0.3], color=INK, linewidth=1.4))
    _, seeds, prompts = found.grid.values.shape
    for k, place in zip(order, apart, strict=True):
        told = crossed_interval(found.grid.values[k], clusters=scores.clusters or None)
        bounds = "no interval" if math.isnan(told.low) else f"{number(told.low, 2)} to {number(told.high, 2)}"
        series.at(axis, means[k], place, f"{series.title} from {scores.start}, {SPLIT_TITLES[scores.split]}",
                  found.labels[k], f"{label[0].upper()}{label[1:]}: {number(told.estimate, 2)} ({bounds})",
                  f"{count(seeds, 'seed')}, {count(prompts, 'prompt')}")  # fmt: skip
