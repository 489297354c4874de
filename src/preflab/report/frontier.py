"""Reward against KL: what every method buys, and with how much change."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from preflab.report.analysis import Analysis
from preflab.report.figures import WIDTH, axis_label, group_words, marker_of, runs_of, series_of, told
from preflab.report.points import Points
from preflab.report.ranking import group_intervals
from preflab.report.svg import INK, MUTED, FigureText, drawn, name_colour, panels, reach, settle, style
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
    scale = 100 if rate else 1
    place = (x.estimate, y.estimate * scale)
    series.drew(axis.errorbar(*place, xerr=reach([x], floor=0.0), yerr=reach([y]) * scale, color=series.colour,
                              linewidth=0, elinewidth=0.8, marker=marker_of(analysis, group.method),
                              markersize=5))  # fmt: skip
    series.drew(axis.annotate(series.title, place, color=name_colour(series.colour), fontsize=8, va="center"))
    series.at(axis, *place, *group_words(analysis, split, group), f"{analysis.metric.label} {told(y, rate=rate)}",
              f"KL {kl_words(x)}", runs_of(analysis, split, group))  # fmt: skip


def kl_words(kl: Interval) -> str:
    """Return a KL with its interval."""
    bounds = "no interval" if math.isnan(kl.low) else f"{number(kl.low, 2)} to {number(kl.high, 2)}"
    return f"{number(kl.estimate, 2)} ({bounds}) nats per response"


def _root_axis(axes: Sequence[Any], kls: Sequence[Interval | None]) -> None:
    """Space KL by its square root, which is about proportional to how far the parameters moved."""
    highest = max((np.nanmax([kl.estimate, kl.high]) for kl in kls if kl is not None), default=0.0) or 1.0
    axes[0].set_xscale("function", functions=(lambda x: np.sign(x) * np.sqrt(np.abs(x)), lambda x: x * np.abs(x)))
    axes[0].set_xlim(-0.002 * highest, 1.15 * highest)  # room for half a star
    steps = [k * 10.0**e for e in range(-3, 5) for k in (1, 2, 5)]
    shown = [0.0]
    for step in steps:
        if step <= 1.15 * highest and math.sqrt(step) - math.sqrt(shown[-1]) >= 0.13 * math.sqrt(highest):
            shown.append(step)
    axes[0].set_xticks(shown, [f"{step:g}" for step in shown])


_Box = tuple[float, float, float, float]
"""Left, lower, right, upper, in points."""

_POINT, _NAME, _BAR = 10.0, 10.0, 3.0  # how bad a square point of cover is, against a point of distance


def _label_points(figure: Any, axes: Sequence[Any]) -> None:
    """Put each name near its point where it covers least of points, names, bars and what is outside the panel."""
    settle(figure)
    unit = figure.dpi / 72
    for axis in axes:
        marks = [mark for line in axis.lines for mark in axis.transData.transform(line.get_xydata()) / unit]
        bars = [axis.transData.transform(bar) / unit for bars in axis.collections for bar in bars.get_segments()]
        there = [((x - 5, y - 5, x + 5, y + 5), _POINT) for x, y in marks]
        there += [((*(bar.min(axis=0) - 0.5), *(bar.max(axis=0) + 0.5)), _BAR) for bar in bars]
        panel: _Box = tuple(axis.bbox.extents / unit)
        for label in axis.texts:
            (x, y), extent = axis.transData.transform(label.xy) / unit, label.get_window_extent()
            _, shift, box = min(_tries(x, y, extent.width / unit, extent.height / unit, there, panel))
            there.append((box, _NAME))
            label.set_position(shift)
            label.set_anncoords("offset points")


def _tries(
    x: float, y: float, width: float, height: float, there: Sequence[tuple[_Box, float]], panel: _Box
) -> Iterator[tuple[float, tuple[float, float], _Box]]:
    """Yield places for a name around a point: how bad each is, its offset from the point, and its box."""
    for up in (7.0, -7.0, 0.0, 16.0, -16.0, 25.0, -25.0):
        for right in (6.0, -6.0 - width):
            box = (x + right, y + up - height / 2, x + right + width, y + up + height / 2)
            covered = sum(weight * _common(box, other) for other, weight in there)
            outside = _POINT * (width * height - _common(box, panel))
            yield covered + outside + abs(up) + (right < 0), (right, up), box


def _common(one: _Box, other: _Box) -> float:
    """Return the area that two boxes share."""
    wide, high = (min(one[k + 2], other[k + 2]) - max(one[k], other[k]) for k in (0, 1))
    return max(wide, 0.0) * max(high, 0.0)
