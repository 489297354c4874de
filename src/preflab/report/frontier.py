"""Reward against KL: what every method buys, and with how much change."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from preflab.report.analysis import Analysis
from preflab.report.figures import WIDTH, axis_label, group_words, marker_of, runs_of, series_of, told
from preflab.report.points import Points
from preflab.report.ranking import group_intervals
from preflab.report.svg import INK, MUTED, FigureText, drawn, panels, settle, spread, style
from preflab.report.tables import Group
from preflab.report.wording import number
from preflab.stats.intervals import Interval


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
    rate, points = analysis.metric.is_rate, Points()
    scale = 100 if rate else 1
    with style():
        figure, axes = panels(1, len(starts), width=WIDTH, height=3.5, sharex=True, sharey=True)
        for axis, start in zip(axes[0], starts, strict=True):
            for group in groups:
                if group.start == start and (kl := facts[group].kl) is not None:
                    _point(axis, analysis, points, group, split, (kl, scores[group]))
            first = Group(start, "", 0)
            if (base := scores.get(first)) is not None:
                series, y = series_of(points, analysis, ""), base.estimate * scale
                series.drew(axis.plot(0, y, "*", color=INK, markersize=8, clip_on=False))
                series.at(axis, 0, y, *group_words(analysis, split, first),
                          f"{analysis.metric.label} {told(base, rate=rate)}",
                          runs_of(analysis, split, first))  # fmt: skip
            axis.set_title(f"from {start}")
        axes[0, 0].set_ylabel(axis_label(analysis))
        figure.supxlabel("KL to the start point, nats per response (square-root scale)", fontsize=8.5, color=MUTED)
        _root_axis(axes[0], [facts[g].kl for g in groups])
        _label_points(figure, axes[0])
    caption = (
        "Up is better, left is closer to the start point (star). Bars: 95 % intervals over prompts and seeds. A method "
        "below and to the right of another buys less with more change."
    )
    label = "Score against KL to the start point; the numbers are in the table below."
    return drawn(figure, "frontier", label, caption, points)


def _point(
    axis: Any, analysis: Analysis, points: Points, group: Group, split: str, both: tuple[Interval, Interval]
) -> None:
    (x, y), rate, series = both, analysis.metric.is_rate, series_of(points, analysis, group.method)
    scale, left = 100 if rate else 1, min(_half(x), x.estimate)
    place = (x.estimate, y.estimate * scale)
    series.drew(axis.errorbar(*place, xerr=[[left], [_half(x)]], yerr=_half(y) * scale, color=series.colour,
                              linewidth=0, elinewidth=0.8, marker=marker_of(analysis, group.method),
                              markersize=5))  # fmt: skip
    series.drew(axis.annotate(series.title, place, color=series.colour, fontsize=8, va="center", label="point",
                              zorder=1))  # fmt: skip
    series.at(axis, *place, *group_words(analysis, split, group), f"{analysis.metric.label} {told(y, rate=rate)}",
              f"KL {kl_words(x)}", runs_of(analysis, split, group))  # fmt: skip


def kl_words(kl: Interval) -> str:
    """Return a KL with its interval."""
    bounds = "no interval" if math.isnan(kl.low) else f"{number(kl.low, 2)} to {number(kl.high, 2)}"
    return f"{number(kl.estimate, 2)} ({bounds}) nats per response"


def _half(interval: Interval) -> float:
    return 0.0 if math.isnan(interval.half_width) else interval.half_width


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
        labels = [text for text in axis.texts if text.get_label() == "point"]
        left, right = axis.bbox.x0, axis.bbox.x1
        places = [tuple(map(float, axis.transData.transform(label.xy))) for label in labels]
        moved = _apart(places, reach=60 * unit, gap=9.5 * unit)
        for label, (x, y), after in zip(labels, places, moved, strict=True):
            beyond = x > left + 0.72 * (right - left)
            label.set_position((-8 if beyond else 8, (after - y) / unit + 4))
            label.set_horizontalalignment("right" if beyond else "left")
            label.set_anncoords("offset points")


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
