"""The figures of the report. Matplotlib is imported when the first one is drawn, because that alone takes a second."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from preflab.report.analysis import Analysis, seeds_of
from preflab.report.behaviour import QUANTILES, Behaviour
from preflab.report.points import Points, Series
from preflab.report.ranking import POOLED, RankedMethod, Ranking, group_intervals
from preflab.report.svg import (
    COLOURS,
    INK,
    MARKERS,
    MUTED,
    PAPER,
    FigureText,
    drawn,
    name_colour,
    panels,
    reach,
    settle,
    spread,
    style,
)
from preflab.report.tables import Group, final_cells
from preflab.report.wording import count, number, percent, score, score_range, signed
from preflab.stats.intervals import Interval

SPLIT_TITLES = {"test": "test prompts", "ood": "out-of-distribution prompts", "validation": "validation"}
WIDTH = 10.0  # inches, 720 SVG units; the page shows them about 1.35 times as large


def ranking_figure(analysis: Analysis) -> FigureText | None:
    """Dot plot of the headline score of every method, one panel per start point and one for all together."""
    scopes = analysis.scopes
    if not scopes:
        return None
    order, points = _order(analysis, scopes), Points()
    with style():
        figure, axes = panels(1, len(scopes), width=WIDTH, height=1.0 + 0.34 * len(order), sharex=True, sharey=True)
        for axis, scope in zip(axes[0], scopes, strict=True):
            _dots(axis, analysis, scope, order, points)
        axes[0, 0].set_yticks(range(len(order)), [analysis.title(m) for m in order], color=INK)
        axes[0, 0].set_ylim(len(order) - 0.4, -0.6)
        figure.supxlabel(axis_label(analysis), fontsize=8.5, color=MUTED)
    seeds = seeds_of(analysis.tables.cells) > 1
    caption = f"Bars: 95 % intervals over prompts{' and seeds. Ticks: single seeds' if seeds else ''}."
    if len(analysis.scores) > 1:
        caption += (
            " Filled: test prompts, dashed: the start point there; hollow and dotted: the same out of distribution."
        )
    else:
        caption += " Dashed: the start point."
    label = "Score of every method with 95 % intervals; the numbers are in the table below."
    return drawn(figure, "ranking", label, caption, points)


def _order(analysis: Analysis, scopes: Sequence[str]) -> list[str]:
    """Return all methods, best first in the first scope that ranks them."""
    ranked = [r for scope in scopes if (r := analysis.ranking("test", scope) or analysis.ranking("ood", scope))]
    methods = dict.fromkeys(row.method for ranking in ranked for row in ranking.rows)
    return [*methods, *(m for m in analysis.methods if m not in methods)]


def _dots(axis: Any, analysis: Analysis, scope: str, order: list[str], points: Points) -> None:
    axis.set_title(scope if scope == POOLED else f"from {scope}")
    axis.grid(axis="y", visible=False)
    scale = 100 if analysis.metric.is_rate else 1
    both = bool(analysis.ranking("test", scope)) and bool(analysis.ranking("ood", scope))
    for split, shift, filled in (("test", -0.14 if both else 0.0, True), ("ood", 0.18 if both else 0.0, False)):
        ranking = analysis.ranking(split, scope)
        if ranking is None:
            continue
        if ranking.baseline is not None:
            line = (0, (4, 3)) if split == "test" or not both else (0, (1, 2.5))
            axis.axvline(ranking.baseline.estimate * scale, color=MUTED, linewidth=0.9, linestyle=line)
        for row in ranking.rows:
            series, y = series_of(points, analysis, row.method), order.index(row.method) + shift
            _dot(axis, row, y, scale, series, filled)
            series.at(axis, row.overall.estimate * scale, y, *_ranked(analysis, ranking, row))


def _dot(axis: Any, row: RankedMethod, y: float, scale: float, series: Series, filled: bool) -> None:
    colour = series.colour
    if not math.isnan(row.overall.low):
        bounds = [row.overall.low * scale, row.overall.high * scale]
        series.drew(axis.plot(bounds, [y, y], color=colour, linewidth=2.4 if filled else 1.1, solid_capstyle="butt",
                              alpha=0.75))  # fmt: skip
    if len(row.seed_means) > 1:
        means = [mean * scale for mean in row.seed_means]
        series.drew(axis.plot(means, [y] * len(means), "|", color=INK, markersize=6, markeredgewidth=0.9, zorder=4))
    series.drew(axis.plot(row.overall.estimate * scale, y, "o", markersize=6 if filled else 4.6, color=colour,
                          markerfacecolor=colour if filled else PAPER, markeredgewidth=1.2))  # fmt: skip


def _ranked(analysis: Analysis, ranking: Ranking, row: RankedMethod) -> list[str]:
    """Say what a dot of the ranking is."""
    where = f"over {POOLED}" if ranking.start == POOLED else f"from {ranking.start}"
    setting = "" if ranking.start == POOLED else setting_of(analysis, Group(ranking.start, row.method, ranking.size))
    means = ", ".join(score(mean, rate=analysis.metric.is_rate) for mean in row.seed_means)
    return [
        f"{analysis.title(row.method)} {where}, {SPLIT_TITLES[ranking.split]}", setting,
        f"{analysis.metric.label} {told(row.overall, rate=analysis.metric.is_rate)}",
        f"{count(len(row.seeds), 'seed')}" + (f": {means}" if len(row.seeds) > 1 else ""),
        f"{count(ranking.size, 'training pair')}, {count(ranking.n_items, 'prompt')}",
    ]  # fmt: skip


def sizes_figure(analysis: Analysis) -> FigureText | None:
    """Headline score against the number of training pairs, one panel per start point; None with one size."""
    split = next(iter(analysis.scores), None)
    if split is None or len(analysis.sizes) < 2:
        return None
    found = group_intervals(analysis.scores[split])
    starts = [s for s in analysis.starts if any(g.start == s and g.method for g in found)]
    if not starts:
        return None
    points = Points(toggled=True)
    with style():
        figure, axes = panels(1, len(starts), width=WIDTH, height=3.3, sharey=True)
        for axis, start in zip(axes[0], starts, strict=True):
            _size_lines(axis, analysis, start, found, points, split)
        axes[0, 0].set_ylabel(axis_label(analysis))
        _label_lines(figure, axes[0])
    return drawn(
        figure,
        "sizes",
        "Score against training pairs, by method; the numbers are in the table below.",
        "Lines: means over seeds; bars: 95 % intervals. Dashed: the start point without training.",
        points,
    )


def _size_lines(
    axis: Any, analysis: Analysis, start: str, found: dict[Group, Interval], points: Points, split: str
) -> None:
    scale = 100 if analysis.metric.is_rate else 1
    base = found.get(Group(start, "", 0))
    if base is not None:
        axis.axhline(base.estimate * scale, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    for k, method in enumerate(analysis.methods):
        mine = [(g, i) for g, i in found.items() if (g.start, g.method) == (start, method)]
        mine.sort(key=lambda each: each[0].size)
        if not mine:
            continue
        x = np.array([group.size for group, _ in mine]) * 1.03 ** (k - len(analysis.methods) / 2)
        y = np.array([i.estimate for _, i in mine]) * scale
        series = series_of(points, analysis, method)
        bars = reach([interval for _, interval in mine]) * scale
        series.drew(axis.errorbar(x, y, yerr=bars, color=series.colour, linewidth=1.5, elinewidth=0.8,
                                  marker=marker_of(analysis, method), markersize=4))  # fmt: skip
        end = (mine[-1][0].size * 1.03 ** (len(analysis.methods) / 2), y[-1])
        series.drew(axis.annotate(series.title, end, color=name_colour(series.colour), fontsize=8, va="center",
                                  label="end"))  # fmt: skip
        for (group, interval), right, up in zip(mine, x, y, strict=True):
            series.at(axis, right, up, *group_words(analysis, split, group),
                      f"{analysis.metric.label} {told(interval, rate=analysis.metric.is_rate)}",
                      runs_of(analysis, split, group))  # fmt: skip
    axis.set_xscale("log")
    axis.set_xticks(list(analysis.sizes), [f"{size:,}" for size in analysis.sizes])
    axis.minorticks_off()
    axis.set_xlim(analysis.sizes[0] / 1.4, analysis.sizes[-1] * (analysis.sizes[-1] / analysis.sizes[0]) ** 0.5 * 1.2)
    axis.set_title(f"from {start}")
    axis.set_xlabel("training pairs")


def _label_lines(figure: Any, axes: Sequence[Any]) -> None:
    """Put names beside the ends of lines, apart from each other."""
    settle(figure)
    for axis in axes:
        labels = [text for text in axis.texts if text.get_label() == "end"]
        pixels = [float(axis.transData.transform(label.xy)[1]) for label in labels]
        for label, before, after in zip(labels, pixels, spread(pixels, 9.5 * figure.dpi / 72), strict=True):
            label.set_position((6, (after - before) * 72 / figure.dpi))
            label.set_anncoords("offset points")


def likelihood_figure(analysis: Analysis, start: str) -> FigureText | None:
    """Change of the log-probs of chosen and rejected responses during training, one panel per method."""
    cells = final_cells(analysis.tables)
    cells = cells[(cells["start"] == start) & (cells["method"] != "") & (cells["size"] == analysis.size)]
    frame = analysis.tables.dynamics.merge(cells[["cell", "method", "kept_step"]], on="cell")
    methods = [m for m in analysis.methods if m in set(frame["method"])]
    if not methods:
        return None
    points, columns = Points(), min(4, len(methods))
    rows = math.ceil(len(methods) / columns)
    with style():
        figure, axes = panels(rows, columns, width=WIDTH, height=0.8 + 1.75 * rows, sharex=True, sharey=True)
        for k, axis in enumerate(axes.flat):
            if k < len(methods):
                _curves(
                    axis, frame[frame["method"] == methods[k]], points, f"{analysis.title(methods[k])} from {start}"
                )
                axis.set_title(analysis.title(methods[k]))
            else:
                axis.set_visible(False)
        figure.supxlabel("training pairs seen", fontsize=8.5, color=MUTED)
        figure.supylabel("change of log-prob, nats per response", fontsize=8.5, color=MUTED)
        _room_for_names(axes[0, 0])
        _label_lines(figure, axes.flat)
    caption = (
        f"From {start}, {analysis.size:,} pairs: change since the first step of the mean log-prob of chosen (blue, "
        "solid) and rejected (orange, dashed) validation responses, and of answers to other prompts, which are unseen "
        "(green, dotted). Lines: mean of the seeds; bands: their range."
    )
    if frame["kept_step"].notna().any():
        caption += (
            " Where runs stop early, triangles mark the weights that each kept; lines go on over the seeds that still "
            "train."
        )
    return drawn(
        figure,
        f"likelihood-{analysis.starts.index(start)}",
        f"Log-probs of chosen and rejected responses during training from {start}.",
        caption,
        points,
    )


_FOLLOWED = (
    ("chosen_total", COLOURS[0], "-"),
    ("rejected_total", COLOURS[1], (0, (4, 2))),
    ("unseen_total", COLOURS[2], (0, (1, 1))),
)


_MOST_MARKS = 24
"""Of a line with many points, spread over it."""


def _curves(axis: Any, frame: pd.DataFrame, points: Points, who: str) -> None:
    axis.axhline(0, color=MUTED, linewidth=0.8)
    x_name = "pairs_seen" if frame["pairs_seen"].notna().all() else "step"
    kept = frame[frame["step"] == frame["kept_step"]]
    axis.plot(kept[x_name], [0.0] * len(kept), "^", color=INK, markersize=4, zorder=5)
    ends = []
    for column, colour, dash in _FOLLOWED:
        wide = frame.pivot_table(index=x_name, columns="cell", values=column)
        if wide.empty:
            continue
        change = wide - wide.iloc[0]
        x, mean = change.index.to_numpy(dtype=float), change.mean(axis=1).to_numpy()
        low, high = change.min(axis=1).to_numpy(), change.max(axis=1).to_numpy()
        series = points.series(column.removesuffix("_total"), colour)
        series.drew(axis.fill_between(x, low, high, color=colour, alpha=0.22, linewidth=0))
        series.drew(axis.plot(x, mean, color=colour, linestyle=dash))
        for k in np.unique(np.linspace(0, len(x) - 1, _MOST_MARKS).round().astype(int))[1:]:
            runs = int(change.iloc[k].notna().sum())
            bounds = f" ({number(low[k], 2)} to {number(high[k], 2)} over {runs} seeds)" if runs > 1 else " (one seed)"
            series.at(axis, x[k], mean[k], f"{who}: {series.title} responses",
                      f"After {count(round(x[k]), 'pair' if x_name == 'pairs_seen' else 'step')}",
                      f"{signed(mean[k], 2)}{bounds} nats per response")  # fmt: skip
        ends.append((series, x[-1], mean[-1]))
    for series, *end in ends:
        series.drew(axis.annotate(series.title, tuple(end), va="center", fontsize=8, color=name_colour(series.colour),
                                  label="end"))  # fmt: skip
    axis.margins(y=0.16)


def _room_for_names(axis: Any) -> None:
    """Leave a quarter of each panel to the names at the ends of lines; the ticks end with the data."""
    left, right = axis.get_xlim()
    ticks = [tick for tick in axis.get_xticks() if left <= tick <= right]
    axis.set_xlim(left, right + 0.32 * (right - left))
    axis.set_xticks(ticks)


def lengths_figure(analysis: Analysis) -> FigureText | None:
    """Distribution of response lengths, one panel per start point, with the share of truncated responses."""
    split = next((s for s in ("test", "ood") if any(b.length_quantiles for b in analysis.behaviour[s].values())), None)
    if split is None:
        return None
    facts = analysis.behaviour[split]
    shown = [b for g, b in facts.items() if b.length_quantiles and g.size in (0, analysis.size)]
    starts = [start for start in analysis.starts if any(b.group.start == start for b in shown)]
    order = ["", *(m for m in analysis.methods if any(b.group.method == m for b in shown))]
    points = Points()
    with style():
        figure, axes = panels(
            1, len(starts), width=WIDTH, height=0.9 + 0.27 * (len(order) + 2), sharex=True, sharey=True
        )
        for axis, start in zip(axes[0], starts, strict=True):
            _length_rows(axis, analysis, [b for b in shown if b.group.start == start], order, points, split)
            _data_lengths(axis, analysis, split, len(order), points)
            axis.set_title(f"from {start}")
        names = [*(analysis.title(m) for m in order), "data: chosen", "data: rejected"]
        axes[0, 0].set_yticks(range(len(names)), names, color=INK)
        axes[0, 0].set_ylim(len(names) - 0.4, -0.6)
        axes[0, 0].set_xlim(left=0)
        figure.supxlabel("tokens per response", fontsize=8.5, color=MUTED)
    caption = "Dot: median; thick: middle half; thin: 10 to 90 %. Percent: responses cut at the token limit."
    label = "Distribution of response lengths; the numbers are in the table below."
    return drawn(figure, "lengths", label, caption, points)


def _length_rows(
    axis: Any, analysis: Analysis, shown: list[Behaviour], order: list[str], points: Points, split: str
) -> None:
    axis.grid(axis="y", visible=False)
    for facts in shown:
        y, group = order.index(facts.group.method), facts.group
        cut = "" if facts.truncated is None else f"{percent(facts.truncated.estimate, 1)} cut at the token limit"
        _quantile_bar(axis, y, facts.length_quantiles, series_of(points, analysis, group.method),
                      *group_words(analysis, split, group), f"{_quantiles(facts.length_quantiles)}{cut and '; '}{cut}",
                      runs_of(analysis, split, group))  # fmt: skip
        if facts.truncated is not None and facts.truncated.estimate >= 0.01:
            axis.annotate(f"{facts.truncated.estimate:.0%}", (facts.length_quantiles[-1], y), xytext=(4, 0),
                          textcoords="offset points", va="center", fontsize=7.5, color=MUTED)  # fmt: skip


def _data_lengths(axis: Any, analysis: Analysis, split: str, first: int, points: Points) -> None:
    pairs = analysis.tables.pairs
    pairs = pairs[pairs["split"] == split].drop_duplicates("row")
    for k, column in enumerate(("chosen_length", "rejected_length")):
        values = pairs[column].dropna().to_numpy(dtype=float)
        if len(values):
            cuts = tuple(float(cut) for cut in np.quantile(values, QUANTILES))
            name = f"{column.removesuffix('_length').capitalize()} responses of the data, {SPLIT_TITLES[split]}"
            _quantile_bar(axis, first + k, cuts, points.series(name, MUTED), name, _quantiles(cuts),
                          count(len(values), "response"))  # fmt: skip


def _quantile_bar(axis: Any, y: float, cuts: Sequence[float], series: Series, *words: str) -> None:
    colour = series.colour
    series.drew(axis.plot([cuts[0], cuts[4]], [y, y], color=colour, linewidth=1.0, solid_capstyle="butt"))
    series.drew(axis.plot([cuts[1], cuts[3]], [y, y], color=colour, linewidth=4.0, solid_capstyle="butt", alpha=0.6))
    series.drew(axis.plot(cuts[2], y, "o", color=colour, markersize=4.5, markeredgecolor=PAPER, markeredgewidth=0.6))
    series.at(axis, cuts[2], y, *words)


def _quantiles(cuts: Sequence[float]) -> str:
    low, first, middle, third, high = (f"{cut:,.0f}" for cut in cuts)
    return f"Median {middle} tokens; middle half {first} to {third}; 10 to 90\u00a0%: {low} to {high}"


def series_of(points: Points, analysis: Analysis, method: str) -> Series:
    """Return the series of a method, or of the start points."""
    return points.series(analysis.title(method), colour_of(analysis, method) if method else INK)


def group_words(analysis: Analysis, split: str, group: Group) -> tuple[str, str]:
    """Say which method, start point and prompts a mark stands for, and with which setting."""
    if not group.method:
        return f"Start point {group.start}, {SPLIT_TITLES[split]}", ""
    return f"{analysis.title(group.method)} from {group.start}, {SPLIT_TITLES[split]}", setting_of(analysis, group)


def setting_of(analysis: Analysis, group: Group) -> str:
    """Return the setting that validation chose for a group."""
    return " or ".join(analysis.settings(group))


def runs_of(analysis: Analysis, split: str, group: Group) -> str:
    """Say how many training pairs, seeds and prompts are behind a group's numbers."""
    scores = analysis.scores.get(split)
    parts = [count(group.size, "training pair")] if group.method else []
    if scores is not None:
        parts += [count(len(scores.seeds[group]), "seed")] if group.method and group in scores.seeds else []
        parts.append(count(len(scores.rows), "prompt"))
    return ", ".join(parts)


def told(interval: Interval, *, rate: bool) -> str:
    """Return a score with its interval, in the words of the tables."""
    return f"{score(interval.estimate, rate=rate)} ({score_range(interval, rate=rate)})"


def colour_of(analysis: Analysis, method: str) -> str:
    """Return the colour that a method has in every figure."""
    return COLOURS[analysis.methods.index(method) % len(COLOURS)]


def marker_of(analysis: Analysis, method: str) -> str:
    """Return the marker that a method has in every figure."""
    return MARKERS[analysis.methods.index(method) % len(MARKERS)]


def axis_label(analysis: Analysis) -> str:
    """Return the label of an axis of headline scores."""
    return analysis.metric.label.lower() + (", %" if analysis.metric.is_rate else "")
