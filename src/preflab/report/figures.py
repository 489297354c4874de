"""The figures of the report. Matplotlib is imported when the first one is drawn, because that alone takes a second."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from preflab.report.analysis import Analysis
from preflab.report.behaviour import Behaviour
from preflab.report.ranking import POOLED, RankedMethod, group_intervals
from preflab.report.svg import COLOURS, INK, MARKERS, MUTED, PAPER, FigureText, drawn, panels, settle, spread, style
from preflab.report.tables import Group, final_cells
from preflab.stats.intervals import Interval

WIDTH = 10.0  # inches, 720 SVG units; the page shows them about 1.35 times as large


def ranking_figure(analysis: Analysis) -> FigureText | None:
    """Dot plot of the headline score of every method, one panel per start point and one for all together."""
    scopes = [s for s in (POOLED, *analysis.starts) if analysis.ranking("test", s) or analysis.ranking("ood", s)]
    if not scopes:
        return None
    order = _order(analysis, scopes)
    with style():
        figure, axes = panels(1, len(scopes), width=WIDTH, height=1.0 + 0.34 * len(order), sharex=True, sharey=True)
        for axis, scope in zip(axes[0], scopes, strict=True):
            _dots(axis, analysis, scope, order)
        axes[0, 0].set_yticks(range(len(order)), [analysis.title(m) for m in order], color=INK)
        axes[0, 0].set_ylim(len(order) - 0.4, -0.6)
        figure.supxlabel(axis_label(analysis), fontsize=8.5, color=MUTED)
    caption = (
        "Bars: 95 % intervals over prompts and seeds. Ticks: single seeds. Filled: test prompts; hollow: "
        "out-of-distribution prompts. Dashed: the start point on the test prompts."
    )
    return drawn(
        figure, "ranking", "Score of every method with 95 % intervals; the numbers are in the table below.", caption
    )


def _order(analysis: Analysis, scopes: Sequence[str]) -> list[str]:
    """Return all methods, best first in the first scope that ranks them."""
    ranked = [r for scope in scopes if (r := analysis.ranking("test", scope) or analysis.ranking("ood", scope))]
    methods = dict.fromkeys(row.method for ranking in ranked for row in ranking.rows)
    return [*methods, *(m for m in analysis.methods if m not in methods)]


def _dots(axis: Any, analysis: Analysis, scope: str, order: list[str]) -> None:
    axis.set_title(scope if scope == POOLED else f"from {scope}")
    axis.grid(axis="y", visible=False)
    scale = 100 if analysis.metric.is_rate else 1
    both = bool(analysis.ranking("test", scope)) and bool(analysis.ranking("ood", scope))
    for split, shift, filled in (("test", -0.14 if both else 0.0, True), ("ood", 0.18 if both else 0.0, False)):
        ranking = analysis.ranking(split, scope)
        if ranking is None:
            continue
        if split == "test" and ranking.baseline is not None:
            axis.axvline(ranking.baseline.estimate * scale, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        for row in ranking.rows:
            _dot(axis, row, order.index(row.method) + shift, scale, colour_of(analysis, row.method), filled)


def _dot(axis: Any, row: RankedMethod, y: float, scale: float, colour: str, filled: bool) -> None:
    if not math.isnan(row.overall.low):
        bounds = [row.overall.low * scale, row.overall.high * scale]
        axis.plot(bounds, [y, y], color=colour, linewidth=2.4 if filled else 1.1, solid_capstyle="butt", alpha=0.75)
    if len(row.seed_means) > 1:
        means = [mean * scale for mean in row.seed_means]
        axis.plot(means, [y] * len(means), "|", color=INK, markersize=6, markeredgewidth=0.9, zorder=4)
    axis.plot(row.overall.estimate * scale, y, "o", markersize=6 if filled else 4.6, color=colour,
              markerfacecolor=colour if filled else PAPER, markeredgewidth=1.2)  # fmt: skip


def sizes_figure(analysis: Analysis) -> FigureText | None:
    """Headline score against the number of training pairs, one panel per start point; None with one size."""
    split = next(iter(analysis.scores), None)
    if split is None or len(analysis.sizes) < 2:
        return None
    found = group_intervals(analysis.scores[split])
    starts = [s for s in analysis.starts if any(g.start == s and g.method for g in found)]
    if not starts:
        return None
    scale = 100 if analysis.metric.is_rate else 1
    with style():
        figure, axes = panels(1, len(starts), width=WIDTH, height=3.3, sharey=True)
        for axis, start in zip(axes[0], starts, strict=True):
            _size_lines(axis, analysis, start, found, scale)
        axes[0, 0].set_ylabel(axis_label(analysis))
        _label_lines(figure, axes[0])
    return drawn(
        figure,
        "sizes",
        "Score against training pairs, by method; the numbers are in the table below.",
        "Lines: means over seeds; bars: 95 % intervals. Dashed: the start point without training.",
    )


def _size_lines(axis: Any, analysis: Analysis, start: str, found: dict[Group, Interval], scale: float) -> None:
    base = found.get(Group(start, "", 0))
    if base is not None:
        axis.axhline(base.estimate * scale, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    for k, method in enumerate(analysis.methods):
        points = [(g.size, i) for g, i in found.items() if (g.start, g.method) == (start, method)]
        points.sort(key=lambda point: point[0])
        if not points:
            continue
        x = np.array([size for size, _ in points]) * 1.03 ** (k - len(analysis.methods) / 2)
        y = np.array([i.estimate for _, i in points]) * scale
        half = np.nan_to_num(np.array([i.half_width for _, i in points]) * scale)
        colour = colour_of(analysis, method)
        axis.errorbar(x, y, yerr=half, color=colour, linewidth=1.5, elinewidth=0.8, marker=marker_of(analysis, method),
                      markersize=4)  # fmt: skip
        end = (points[-1][0] * 1.03 ** (len(analysis.methods) / 2), y[-1])
        axis.annotate(analysis.title(method), end, color=colour, fontsize=8, va="center",
                      gid="end", zorder=1)  # fmt: skip
    axis.set_xscale("log")
    axis.set_xticks(list(analysis.sizes), [f"{size:,}" for size in analysis.sizes])
    axis.minorticks_off()
    axis.set_xlim(analysis.sizes[0] / 1.4, analysis.sizes[-1] * (analysis.sizes[-1] / analysis.sizes[0]) ** 0.5 * 1.2)
    axis.set_title(f"from {start}")
    axis.set_xlabel("training pairs")


def _label_lines(figure: Any, axes: Sequence[Any], *, aside: float = 8) -> None:
    """Move the names at the ends of lines apart.

    Args:
        figure: the figure.
        axes: of its panels.
        aside: points from the end of a line to its name; 0 sets names above the first line and below the others.
    """
    settle(figure)
    for axis in axes:
        labels = [text for text in axis.texts if text.get_gid() == "end"]
        pixels = [float(axis.transData.transform(label.xy)[1]) for label in labels]
        shift = [0.0 if aside else 6.5 if k == 0 else -6.5 for k in range(len(labels))]
        wanted = [pixel + points * figure.dpi / 72 for pixel, points in zip(pixels, shift, strict=True)]
        for label, before, after in zip(labels, pixels, spread(wanted, 9.5 * figure.dpi / 72), strict=True):
            label.set_position((aside, (after - before) * 72 / figure.dpi))
            label.set_anncoords("offset points")
            label.set_gid(None)


def likelihood_figure(analysis: Analysis, start: str) -> FigureText | None:
    """Change of the log-probs of chosen and rejected responses during training, one panel per method."""
    cells = final_cells(analysis.tables)
    cells = cells[(cells["start"] == start) & (cells["method"] != "") & (cells["size"] == analysis.size)]
    frame = analysis.tables.dynamics.merge(cells[["cell", "method", "kept_step"]], on="cell")
    methods = [m for m in analysis.methods if m in set(frame["method"])]
    if not methods:
        return None
    columns = min(4, len(methods))
    rows = math.ceil(len(methods) / columns)
    with style():
        figure, axes = panels(rows, columns, width=WIDTH, height=0.8 + 1.75 * rows, sharex=True, sharey=True)
        for k, axis in enumerate(axes.flat):
            if k < len(methods):
                _curves(axis, frame[frame["method"] == methods[k]])
                axis.set_title(analysis.title(methods[k]))
            else:
                axis.set_visible(False)
        figure.supxlabel("training pairs seen", fontsize=8.5, color=MUTED)
        figure.supylabel("change of log-prob, nats per response", fontsize=8.5, color=MUTED)
        _label_lines(figure, axes.flat, aside=0)
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
    )


_FOLLOWED = (
    ("chosen_total", COLOURS[0], "-"),
    ("rejected_total", COLOURS[1], (0, (4, 2))),
    ("unseen_total", COLOURS[2], (0, (1, 1))),
)


def _curves(axis: Any, frame: pd.DataFrame) -> None:
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
        axis.fill_between(x, change.min(axis=1), change.max(axis=1), color=colour, alpha=0.22, linewidth=0)
        axis.plot(x, mean, color=colour, linestyle=dash)
        ends.append((column.removesuffix("_total"), colour, x[-1], mean[-1]))
    ends.sort(key=lambda end: -end[3])
    for name, colour, x_end, y_end in ends:
        axis.annotate(name, (x_end, y_end), ha="right", va="center", fontsize=8, color=colour, gid="end")
    axis.margins(y=0.16)


def frontier_figure(analysis: Analysis) -> FigureText | None:
    """Headline score against KL to the start point, both with intervals, one panel per start point."""
    split = next(iter(analysis.scores), None)
    if split is None:
        return None
    scores, facts = group_intervals(analysis.scores[split]), analysis.behaviour[split]
    groups = [g for g in scores if g.method and g.size == analysis.size and g in facts and facts[g].kl is not None]
    starts = [start for start in analysis.starts if any(g.start == start for g in groups)]
    if not starts:
        return None
    scale = 100 if analysis.metric.is_rate else 1
    with style():
        figure, axes = panels(1, len(starts), width=WIDTH, height=3.5, sharex=True, sharey=True)
        for axis, start in zip(axes[0], starts, strict=True):
            _frontier(axis, analysis, [g for g in groups if g.start == start], scores, facts, scale)
            base = scores.get(Group(start, "", 0))
            if base is not None:
                axis.plot(0, base.estimate * scale, "*", color=INK, markersize=8, clip_on=False)
            axis.set_title(f"from {start}")
        axes[0, 0].set_ylabel(axis_label(analysis))
        figure.supxlabel("KL to the start point, nats per response (square-root scale)", fontsize=8.5, color=MUTED)
        _root_axis(axes[0], [facts[g].kl for g in groups])
        _label_points(figure, axes[0])
    caption = (
        "Up is better, left is closer to the start point (star). Bars: 95 % intervals over prompts and seeds. A method "
        "below and to the right of another buys less with more change."
    )
    return drawn(
        figure, "frontier", "Score against KL to the start point; the numbers are in the table below.", caption
    )


def _frontier(
    axis: Any,
    analysis: Analysis,
    groups: list[Group],
    scores: dict[Group, Interval],
    facts: Any,
    scale: float,
) -> None:
    for group in groups:
        colour, y, x = colour_of(analysis, group.method), scores[group], facts[group].kl
        left = min(_half(x), x.estimate)
        axis.errorbar(x.estimate, y.estimate * scale, xerr=[[left], [_half(x)]], yerr=_half(y) * scale, color=colour,
                      linewidth=0, elinewidth=0.8, marker=marker_of(analysis, group.method), markersize=5)  # fmt: skip
        axis.annotate(analysis.title(group.method), (x.estimate, y.estimate * scale), color=colour, fontsize=8,
                      va="center", gid="point", zorder=1)  # fmt: skip


def _root_axis(axes: Sequence[Any], kls: Sequence[Interval | None]) -> None:
    """Space KL by its square root, which is about proportional to how far the parameters moved."""
    highest = max((kl.estimate + _half(kl) for kl in kls if kl is not None), default=0.0) or 1.0
    axes[0].set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0.0)), np.square))
    axes[0].set_xlim(0.0, 1.15 * highest)
    steps = [k * 10.0**e for e in range(-3, 5) for k in (1, 2, 5)]
    shown = [0.0]
    for step in steps:
        if step <= 1.15 * highest and math.sqrt(step) - math.sqrt(shown[-1]) >= 0.13 * math.sqrt(highest):
            shown.append(step)
    axes[0].set_xticks(shown, [f"{step:g}" for step in shown])


def _label_points(figure: Any, axes: Sequence[Any]) -> None:
    """Put names beside their points, apart from each other; names of points far apart need no room from one another."""
    settle(figure)
    unit = figure.dpi / 72
    for axis in axes:
        labels = [text for text in axis.texts if text.get_gid() == "point"]
        left, right = axis.bbox.x0, axis.bbox.x1
        places = [tuple(map(float, axis.transData.transform(label.xy))) for label in labels]
        moved = _apart(places, reach=60 * unit, gap=9.5 * unit)
        for label, (x, y), after in zip(labels, places, moved, strict=True):
            beyond = x > left + 0.72 * (right - left)
            label.set_position((-8 if beyond else 8, (after - y) / unit + 4))
            label.set_horizontalalignment("right" if beyond else "left")
            label.set_anncoords("offset points")
            label.set_gid(None)


def _apart(places: Sequence[tuple[float, ...]], *, reach: float, gap: float) -> list[float]:
    """Return heights at which names do not touch; only points closer than `reach` along x push each other."""
    order = sorted(range(len(places)), key=lambda k: places[k][0])
    runs: list[list[int]] = []
    for k in order:
        if runs and places[k][0] - places[runs[-1][-1]][0] < reach:
            runs[-1].append(k)
        else:
            runs.append([k])
    result = [0.0] * len(places)
    for run in runs:
        for k, height in zip(run, spread([places[k][1] for k in run], gap), strict=True):
            result[k] = height
    return result


def lengths_figure(analysis: Analysis) -> FigureText | None:
    """Distribution of response lengths, one panel per start point, with the share of truncated responses."""
    split = next((s for s in ("test", "ood") if any(b.length_quantiles for b in analysis.behaviour[s].values())), None)
    if split is None:
        return None
    facts = analysis.behaviour[split]
    shown = [b for g, b in facts.items() if b.length_quantiles and g.size in (0, analysis.size)]
    starts = [start for start in analysis.starts if any(b.group.start == start for b in shown)]
    order = ["", *(m for m in analysis.methods if any(b.group.method == m for b in shown))]
    with style():
        figure, axes = panels(
            1, len(starts), width=WIDTH, height=0.9 + 0.27 * (len(order) + 2), sharex=True, sharey=True
        )
        for axis, start in zip(axes[0], starts, strict=True):
            _length_rows(axis, analysis, [b for b in shown if b.group.start == start], order)
            _data_lengths(axis, analysis, split, len(order))
            axis.set_title(f"from {start}")
        names = [*(analysis.title(m) for m in order), "data: chosen", "data: rejected"]
        axes[0, 0].set_yticks(range(len(names)), names, color=INK)
        axes[0, 0].set_ylim(len(names) - 0.4, -0.6)
        axes[0, 0].set_xlim(left=0)
        figure.supxlabel("tokens per response", fontsize=8.5, color=MUTED)
    caption = "Dot: median; thick: middle half; thin: 10 to 90 %. Percent: responses cut at the token limit."
    return drawn(figure, "lengths", "Distribution of response lengths; the numbers are in the table below.", caption)


def _length_rows(axis: Any, analysis: Analysis, shown: list[Behaviour], order: list[str]) -> None:
    axis.grid(axis="y", visible=False)
    for facts in shown:
        y = order.index(facts.group.method)
        colour = colour_of(analysis, facts.group.method) if facts.group.method else INK
        _quantile_bar(axis, y, facts.length_quantiles, colour)
        if facts.truncated is not None and facts.truncated.estimate >= 0.01:
            axis.annotate(f"{facts.truncated.estimate:.0%}", (facts.length_quantiles[-1], y), xytext=(4, 0),
                          textcoords="offset points", va="center", fontsize=7.5, color=MUTED)  # fmt: skip


def _data_lengths(axis: Any, analysis: Analysis, split: str, first: int) -> None:
    pairs = analysis.tables.pairs
    pairs = pairs[pairs["split"] == split].drop_duplicates("row")
    for k, column in enumerate(("chosen_length", "rejected_length")):
        values = pairs[column].dropna().to_numpy(dtype=float)
        if len(values):
            _quantile_bar(axis, first + k, tuple(np.quantile(values, [0.1, 0.25, 0.5, 0.75, 0.9])), MUTED)


def _quantile_bar(axis: Any, y: float, cuts: Sequence[float], colour: str) -> None:
    axis.plot([cuts[0], cuts[4]], [y, y], color=colour, linewidth=1.0, solid_capstyle="butt")
    axis.plot([cuts[1], cuts[3]], [y, y], color=colour, linewidth=4.0, solid_capstyle="butt", alpha=0.6)
    axis.plot(cuts[2], y, "o", color=colour, markersize=4.5, markeredgecolor=PAPER, markeredgewidth=0.6)


def _half(interval: Interval) -> float:
    return 0.0 if math.isnan(interval.half_width) else interval.half_width


def colour_of(analysis: Analysis, method: str) -> str:
    """Return the colour that a method has in every figure."""
    return COLOURS[analysis.methods.index(method) % len(COLOURS)]


def marker_of(analysis: Analysis, method: str) -> str:
    """Return the marker that a method has in every figure."""
    return MARKERS[analysis.methods.index(method) % len(MARKERS)]


def axis_label(analysis: Analysis) -> str:
    """Return the label of an axis of headline scores."""
    return analysis.metric.label.lower() + (", %" if analysis.metric.is_rate else "")
